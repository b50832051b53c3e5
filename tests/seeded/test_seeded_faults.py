"""Faults seeded on purpose, one for each promise: a copy of the project with one of them fails the test that is named.

A promise whose test cannot fail is none. The copy's tests run in a process of their own, as anybody would run them.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import Project, copy_all


@dataclass(frozen=True)
class Fault:
    """One text of a file replaced by another, and the test that has to fail for it."""

    file: str
    before: str
    after: str
    test: str


FAULTS = {
    # the model and its numbers
    "the KL is averaged over latents": Fault(
        "vae/model.py",
        "tf.reduce_sum(gaussian_kl(mean, log_var), axis=1)",
        "tf.reduce_mean(gaussian_kl(mean, log_var), axis=1)",
        "test_evaluation.py::test_the_kl_from_the_standard_normal_is_exact",
    ),
    "the log-ratio of a draw is averaged over latents": Fault(
        "vae/objective.py",
        "0.5 * tf.reduce_sum(log_var, axis=1)",
        "0.5 * tf.reduce_mean(log_var, axis=1)",
        "test_evaluation.py::test_the_likelihood_of_a_linear_gaussian_model_is_its_closed_form",
    ),
    "a draw is moved by the variance": Fault(
        "vae/objective.py",
        "tf.exp(0.5 * log_var) * noise",
        "tf.exp(log_var) * noise",
        "test_evaluation.py::test_the_reconstruction_loss_is_unbiased",
    ),
    "the sum of K weights is divided by 2 K": Fault(
        "vae/evaluation.py",
        "math.log(taken) - log_sum",
        "math.log(2 * taken) - log_sum",
        "test_evaluation.py::test_the_likelihood_of_a_linear_gaussian_model_is_its_closed_form",
    ),
    "K is off by one": Fault(
        "vae/evaluation.py",
        "while taken < samples:",
        "while taken < samples - 1:",
        "test_evaluation.py::test_draws_taken_are_draws_asked",
    ),
    "the importance-weighted bound is a mean of logs": Fault(
        "vae/objective.py",
        "tf.reduce_logsumexp(log_weights, axis=0) - math.log(log_weights.shape[0])",
        "tf.reduce_mean(log_weights, axis=0)",
        "test_objective.py::test_the_importance_weighted_bound_is_the_log_of_the_mean_weight",
    ),
    "the published draw has another seed": Fault(
        "vae/binarisation.py",
        "PUBLISHED_SEED = 777",
        "PUBLISHED_SEED = 778",
        "test_binarisation.py::test_the_published_draw_is_that_of_the_published_code",
    ),
    "a pixel sees itself": Fault(
        "vae/autoregression.py",
        "number[:, None] < ORDER.ravel()",
        "number[:, None] <= ORDER.ravel()",
        "test_autoregression.py::test_no_pixel_depends_on_itself_by_any_way_round",
    ),
    "the weights of the KL warm up one step late": Fault(
        "vae/objective.py",
        "(tf.cast(step, tf.float32) + 1.0)",
        "tf.cast(step, tf.float32)",
        "test_objective.py::test_kl_weight_rises_linearly_and_then_stays",
    ),
    "test images have the labels of others": Fault(
        "stages/preprocess.py",
        '_part(given["test_images"], ',
        '_part(given["test_images"][::-1], ',
        "test_preprocess.py::test_images_belong_to_their_labels",
    ),
    "training validates on the test split": Fault(
        "dvc.yaml",
        "    deps: [data/prepared/train, data/prepared/validation]\n",
        "    deps: [data/prepared/train, data/prepared/test]\n",
        "test_pipeline.py::test_neither_training_nor_what_it_needs_reads_the_test_split",
    ),
    # what a run leaves
    "a rename is a plain write": Fault(
        "pipeline/files.py",
        "        os.replace(partial, path)\n        return",
        "        path.write_bytes(partial.read_bytes())\n        return",
        "test_files.py::test_file_that_is_a_link_into_a_cache_is_replaced_and_the_cache_kept",
    ),
    "a file is not on the disk before it gets its name": Fault(
        "pipeline/files.py",
        "        os.fsync(handle)",
        "        pass",
        "test_files.py::test_every_file_is_on_the_disk_before_it_gets_its_name",
    ),
    "a resume begins with fresh weights": Fault(
        "vae/training.py",
        'trainer.restore([saved[name] for name in sorted(saved) if name.startswith("state_")])',
        "pass",
        "test_end_to_end.py::test_a_killed_training_resumes_with_the_same_bytes",
    ),
    "provenance is not checked at the end": Fault(
        "pipeline/stage.py",
        "    provenance.verify()\n",
        "",
        "test_stage.py::test_input_or_source_edited_meanwhile_is_refused",
    ),
    "an unknown parameter is accepted": Fault(
        "pipeline/params/section.py",
        'extra="forbid"',
        'extra="ignore"',
        "test_params.py::test_unknown_key_is_named_with_the_known_ones",
    ),
    "the lock of a stage is not held": Fault(
        "pipeline/state.py",
        "fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)",
        "pass",
        "test_state.py::test_second_process_is_refused_and_told_the_pid_of_the_first",
    ),
    # what is said of two commits
    "the sign of a verdict is turned round": Fault(
        "workflow/compare/verdicts.py",
        "rises = difference.difference > 0",
        "rises = difference.difference < 0",
        "test_compare.py::test_the_verdict_and_its_exit_status",
    ),
    "the spread over seeds is left out": Fault(
        "workflow/compare/paired.py",
        "*(models * spread.deviation**2 for spread in spreads)",
        "*(0 * spread.deviation**2 for spread in spreads)",
        "test_paired.py::test_the_spread_over_seeds_is_in_the_error_once_for_each_model",
    ),
    "the tolerance is ten times as wide": Fault(
        "workflow/compare/tolerance.py",
        "MULTIPLE = 3",
        "MULTIPLE = 30",
        "test_distances.py::test_a_small_multiple_of_what_was_measured_is_tolerated_and_nothing_else",
    ),
    "a number of no unit may be anything": Fault(
        "workflow/compare/tolerance.py",
        "_SHARE, _SHARE_OF_ERRORS, _ROUNDED = 0.1,",
        "_SHARE, _SHARE_OF_ERRORS, _ROUNDED = 10,",
        "test_distances.py::test_a_metric_that_nobody_knew_needs_no_entry",
    ),
    "data may differ between processors": Fault(
        "workflow/compare/tolerance.py",
        "if not varies(stage)]",
        "if not stage]",
        "test_distances.py::test_what_no_thread_can_change_has_to_be_equal",
    ),
    **{
        f"the quick audit does not look at {look}": Fault(
            "workflow/audit/checks.py",
            f'        "{look}": lambda: ',
            f'        "{look}": lambda: iter(()) or ',
            f"test_audit.py::test_tampering_is_found_without_training[{test}]",
        )
        for look, test in (
            ("lock", "half of another branch's lock"),
            ("provenance", "a metric and its entry of the lock"),
            ("values", "a metric and all that states it"),
            ("card", "a figure of the card and all that states it"),
            ("unfinished", "unfinished work committed"),
            ("seeds", "a loss of the own seed edited"),
        )
    },
    # what a user's machine does
    "a stage keeps the variables of its user": Fault(
        "pipeline/surroundings.py",
        "if not KEPT.fullmatch(name) and name not in STATED]",
        "if not name]",
        "test_stage.py::test_a_stage_keeps_no_variable_that_a_library_reads_but_those_that_it_states",
    ),
    "a command takes the repository that a hook names": Fault(
        "workflow/command.py",
        "for name in _ELSEWHERE:",
        "for name in ():",
        "test_surroundings.py::test_git_variables_of_a_hook_change_nothing_outside_an_audit",
    ),
    "a command obeys the user's settings of git": Fault(
        "workflow/history/revisions.py",
        "for name, value in _HELD.items()",
        "for name, value in ()",
        "test_surroundings.py::test_settings_of_git_that_users_have_change_nothing",
    ),
    # what leaves the project
    "a pack is taken without its hashes": Fault(
        "workflow/release/pack.py",
        "if sha256_file(target) != facts.sha256 or not is_proven(target, entry.name):",
        "if False:",
        "test_release.py::test_a_pack_that_was_altered_is_refused_and_fills_nothing",
    ),
    "a card for a hub states the value as its error": Fault(
        "workflow/release/hub.py",
        'found[f"{key}_se"]',
        "found[key]",
        "test_hub.py::test_the_hub_library_reads_the_card_with_metrics_and_errors",
    ),
    # what a person watches
    "a curve that nothing states is a result": Fault(
        "workflow/history/lock.py",
        'results back"] if unended else []',
        'results back"] if False else []',
        "test_watching.py::test_a_curve_is_a_result_if_the_lock_or_the_record_states_it",
    ),
    "a resume doubles what TensorBoard shows": Fault(
        "pipeline/events.py",
        "{epoch:06d}",
        "{time.monotonic_ns():030d}",
        "test_watching.py::test_what_is_written_of_an_epoch_again_is_there_once",
    ),
    "what follows from a stage is not to come": Fault(
        "pipeline/schedule.py",
        "needs[name] & due}",
        "needs[name] & {stage}}",
        "test_schedule.py::test_what_is_done_and_not_to_be_done_again_counts",
    ),
    "a page asks a network": Fault(
        "workflow/report/page.html.jinja",
        "</head>",
        '<script src="https://example.invalid/x.js"></script></head>',
        "test_report.py::test_each_link_has_its_section_and_nothing_is_asked_of_a_network",
    ),
    "a sweep may be judged by the test split": Fault(
        "workflow/scale/spec.py",
        '    objective: Literal["validation_loss",',
        '    objective: Literal["test_loss", "validation_loss",',
        "test_sweep.py::test_a_bad_specification_is_refused_by_name",
    ),
    "the cluster asks for no token": Fault(
        "workflow/scale/cluster.py",
        'os.environ["RAY_AUTH_MODE"] = "token"',
        'os.environ["RAY_AUTH_MODE"] = "disabled"',
        "scale/test_sweeps.py::test_ray_on_this_machine_lets_nobody_in_who_has_another_token",
    ),
}

#: Tests of `workflow/` that need a project whose pipeline has run: they take this run's.
WITH_RESULTS = ("test_audit", "test_compare", "test_hub", "test_release", "test_report", "test_surroundings")

#: Those that `make test` tries.
QUICK = {
    "the KL is averaged over latents",
    "a rename is a plain write",
    "provenance is not checked at the end",
    "an unknown parameter is accepted",
    "the spread over seeds is left out",
    "the tolerance is ten times as wide",
}


def seeded(fault: Fault, folder: Path) -> Project:
    """A copy of this project, as it stands, with the fault."""
    copy_all(folder)
    text = (folder / fault.file).read_text(encoding="utf-8")
    assert text.count(fault.before) == 1, f"{fault.file} has {text.count(fault.before)} times {fault.before!r}"
    (folder / fault.file).write_text(text.replace(fault.before, fault.after), encoding="utf-8")
    return Project(folder)


@pytest.mark.parametrize(
    "fault",
    [pytest.param(fault, id=name, marks=[] if name in QUICK else pytest.mark.whole) for name, fault in FAULTS.items()],
)
def test_a_fault_fails_the_test_of_its_promise(fault: Fault, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    copy = seeded(fault, tmp_path / "seeded")
    python = sys.executable if fault.test.startswith("scale") else "python"  # Ray does not start in a fork
    command = [python, "-m", "pytest", "--whole", "-x", "-rf", "-p", "no:cacheprovider"]
    needs_results = fault.test.startswith(WITH_RESULTS)
    given = {"PYTEST_FINISHED": str(request.getfixturevalue("finished").folder)} if needs_results else {}
    done = copy.run(*command, f"tests/{fault.test}", env=given)
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout + done.stderr
    assert f"\nFAILED tests/{fault.test}" in done.stdout, done.stdout
