import json

import pytest

from safevla.pipeline.stages import Stage, StageConflict, StageRunner

VERSIONS = {"safevla": "1"}


class Bench:
    """Two stages: `first` writes a number, `second` doubles it."""

    def __init__(self, folder, number=1, *, force=False, versions=VERSIONS):
        self.folder = folder
        self.ran = []
        self.runner = StageRunner(folder, force=force, versions=versions)
        self.first = Stage(
            name="first", config={"n": {"value": number}}, outputs=("a",), run=self._first
        )
        self.second = Stage(
            name="second", config={}, inputs=("a/n.txt",), outputs=("b.txt",), run=self._second
        )
        self.number = number

    def _first(self):
        self.ran.append("first")
        (self.folder / "a").mkdir(exist_ok=True)
        (self.folder / "a/n.txt").write_text(str(self.number))
        (self.folder / "a/events.out.tfevents.1").write_text("log")

    def _second(self):
        self.ran.append("second")
        (self.folder / "b.txt").write_text(str(2 * int((self.folder / "a/n.txt").read_text())))

    def go(self):
        self.runner.check([self.first, self.second])
        self.runner.run(self.first)
        self.runner.run(self.second)
        return self.ran


def test_done_stages_do_not_run_again(tmp_path):
    assert Bench(tmp_path).go() == ["first", "second"]
    assert Bench(tmp_path).go() == []
    manifest = json.loads((tmp_path / "stages/second.json").read_text())
    assert manifest["inputs"].keys() == {"a/n.txt"}
    assert manifest["outputs"].keys() == {"b.txt"}
    assert manifest["finished"] and manifest["seconds"] >= 0


def test_logs_and_additional_files_do_not_matter(tmp_path):
    Bench(tmp_path).go()
    (tmp_path / "a/events.out.tfevents.1").write_text("more log")
    (tmp_path / "a/notes.txt").write_text("mine")
    assert Bench(tmp_path).go() == []


def test_deleted_results_are_made_again(tmp_path):
    Bench(tmp_path).go()
    (tmp_path / "b.txt").unlink()
    assert Bench(tmp_path).go() == ["second"]
    assert (tmp_path / "b.txt").read_text() == "2"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"number": 5}, r"'first' .* finished .* n.value was 1, is now 5; choose another --name"),
        ({"versions": {"safevla": "2"}}, r'safevla was "1", is now "2"'),
    ],
)
def test_other_settings_never_overwrite(tmp_path, changes, message):
    Bench(tmp_path).go()
    other = Bench(tmp_path, **changes)
    with pytest.raises(StageConflict, match=message):
        other.go()
    assert other.ran == []
    assert (tmp_path / "a/n.txt").read_text() == "1"


def test_edited_results_are_never_overwritten(tmp_path):
    Bench(tmp_path).go()
    (tmp_path / "a/n.txt").write_text("7")
    with pytest.raises(StageConflict, match=r"a/n.txt was changed after stage 'first' wrote it"):
        Bench(tmp_path).go()
    assert (tmp_path / "a/n.txt").read_text() == "7"


def test_force_makes_everything_downstream_again(tmp_path):
    Bench(tmp_path).go()
    (tmp_path / "a/old.txt").write_text("from the old settings")
    assert Bench(tmp_path, number=5, force=True).go() == ["first", "second"]
    assert (tmp_path / "b.txt").read_text() == "10"
    assert not (tmp_path / "a/old.txt").exists()


class Interrupted(Bench):
    def _first(self):
        super()._first()
        raise KeyboardInterrupt


def test_interrupted_stage_keeps_its_files_and_goes_on(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        Interrupted(tmp_path).go()
    assert json.loads((tmp_path / "stages/first.json").read_text())["finished"] is None
    (tmp_path / "a/checkpoint").write_text("half way")
    assert Bench(tmp_path).go() == ["first", "second"]
    assert (tmp_path / "a/checkpoint").read_text() == "half way"


def test_interrupted_stage_is_not_continued_with_other_settings(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        Interrupted(tmp_path).go()
    with pytest.raises(StageConflict, match="was started with another setting"):
        Bench(tmp_path, number=2).go()
    (tmp_path / "a/checkpoint").write_text("half way with 1")
    assert Bench(tmp_path, number=2, force=True).go() == ["first", "second"]
    assert not (tmp_path / "a/checkpoint").exists()


def test_another_runs_results_are_copied_where_all_is_alike(tmp_path):
    other = Bench(tmp_path / "other")
    other.folder.mkdir()
    other.go()
    same = Bench(tmp_path / "same")
    assert same.runner.adopt(same.first, other.runner)
    assert same.runner.adopt(same.second, other.runner)
    assert same.go() == [] and (same.folder / "b.txt").read_text() == "2"
    (other.folder / "a/n.txt").write_text("7")
    assert (same.folder / "a/n.txt").read_text() == "1", "a copy, not a link"


def test_results_of_other_settings_or_inputs_are_not_copied(tmp_path):
    other = Bench(tmp_path / "other", number=4)
    other.folder.mkdir()
    other.go()
    mine = Bench(tmp_path / "mine")
    mine.folder.mkdir()
    assert not mine.runner.adopt(mine.first, other.runner), "another number"
    mine.runner.run(mine.first)
    assert not mine.runner.adopt(mine.second, other.runner), "the number doubled there is another"
    assert mine.go() == ["first", "second"] and (mine.folder / "b.txt").read_text() == "2"
    damaged = Bench(tmp_path / "damaged", number=4)
    (other.folder / "a/n.txt").write_text("9")
    assert not damaged.runner.adopt(damaged.first, other.runner)


def test_missing_input_is_named(tmp_path):
    bench = Bench(tmp_path)
    with pytest.raises(StageConflict, match=r"'second' needs .*a/n.txt"):
        bench.runner.run(bench.second)


def test_stage_that_writes_nothing_is_not_done(tmp_path):
    runner = StageRunner(tmp_path, versions=VERSIONS)
    stage = Stage(name="idle", config={}, outputs=("x",), run=lambda: None)
    with pytest.raises(RuntimeError, match="wrote none of x"):
        runner.run(stage)
    assert not runner.is_done(stage)


def test_outputs_rebuilt_on_purpose_are_taken_over(tmp_path):
    bench = Bench(tmp_path)
    bench.go()
    (tmp_path / "b.txt").write_text("2, in better words")
    with pytest.raises(StageConflict, match=r"b\.txt was changed"):
        Bench(tmp_path).go()
    bench.runner.rehash("second", ("b.txt",))
    assert Bench(tmp_path).go() == []
    bench.runner.rehash("third", ("b.txt",))
    assert bench.runner.manifest("third") is None
