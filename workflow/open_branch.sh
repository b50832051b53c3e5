#!/bin/sh
# Commits results.patch of retraining on a branch of its own and asks for it to be merged:
# `sh workflow/open_branch.sh FOLDER BRANCH`, in a checkout of the commit that was retrained, with the token that
# `git push` and `gh` need. FOLDER is what workflow/retrain.py wrote. Does nothing where results are unchanged.
set -eu
if [ $# != 2 ]; then
    echo "usage: sh workflow/open_branch.sh FOLDER BRANCH, received $# arguments" >&2
    exit 2
fi
if [ ! -s "$1/results.patch" ]; then
    echo "open_branch: the results are the committed ones; nothing to merge"
    exit 0
fi
git switch --quiet --create "$2"
git apply --index "$1/results.patch"
git -c user.name="Retraining" -c user.email="retraining@users.noreply.github.com" \
    commit --quiet --message "Record the results of retraining" --message "$(head -n 1 "$1/verdict.md")"
git push --quiet origin "HEAD:refs/heads/$2"
gh pr create --head "$2" --title "Record the results of retraining" --body-file "$1/verdict.md"
