#!/bin/sh
# Commits results.patch of retraining on a branch of its own and asks for it to be merged:
# `sh workflow/open_branch.sh FOLDER BASE BRANCH`, in a checkout of the commit of BASE that was retrained, with the
# token that `git push` and `gh` need. FOLDER is what workflow/retrain.py wrote. Only results are taken from its patch.
# If they are unchanged, it does nothing.
set -eu
if [ $# != 3 ]; then
    echo "usage: sh workflow/open_branch.sh FOLDER BASE BRANCH, received $# arguments" >&2
    exit 2
fi
if [ ! -s "$1/results.patch" ]; then
    echo "open_branch: the results are the committed ones; nothing to merge"
    exit 0
fi
git switch --quiet --create "$3"
git apply --index --include=dvc.lock --include='metrics/*' "$1/results.patch"
git -c user.name="Retraining" -c user.email="retraining@users.noreply.github.com" \
    commit --quiet --message "Record the results of retraining" --message "$(head -n 1 "$1/verdict.md")"
git push --quiet origin "HEAD:refs/heads/$3"
gh pr create --base "$2" --head "$3" --title "Record the results of retraining" --body-file "$1/verdict.md"
