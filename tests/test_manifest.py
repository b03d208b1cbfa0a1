"""challenge.toml: what it says, and one line for each way to be wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_llmgrind import manifest as manifests
from pytest_llmgrind.manifest import ManifestError, load

TOP = 'title = "KV cache"\ntrack = "core"\nsummary = "Once."\n'
SOLUTION = '[solution]\nimports = ["numpy"]\n'
STAGE = '[[stage]]\nname = "naive"\nfile = "hidden/1_naive.py"\ntitle = "Naive"\n'
BUDGET = '[[budget]]\nname = "fast"\nstage = "naive"\nkind = "race"\nlimit = 0.5\nwhat = "time"\n'
KNOWN = "kit, minutes, needs, solution, stage, summary, timeout, title, track, version"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A challenge directory with one hidden file and no manifest yet."""
    root = tmp_path / "challenges" / "04_kv_cache"
    (root / "hidden").mkdir(parents=True)
    (root / "hidden" / "1_naive.py").write_text("")
    return root


def error(root: Path, text: str) -> str:
    """What ``load`` says of a manifest, without the path of the file."""
    (root / "challenge.toml").write_text(text, "utf-8")
    with pytest.raises(ManifestError) as caught:
        load(root)
    message = str(caught.value)
    assert message.startswith(f"{root / 'challenge.toml'}: ")
    assert "\n" not in message
    return message.removeprefix(f"{root / 'challenge.toml'}: ")


def test_a_manifest_becomes_values(root: Path) -> None:
    """Every key that is given arrives, and what is left out has its default."""
    (root / "challenge.toml").write_text(TOP + SOLUTION + STAGE + BUDGET)

    manifest = load(root)

    assert manifest.id == "04_kv_cache"
    assert (manifest.kit, manifest.version, manifest.timeout) == ("np", 1, 60.0)
    assert manifest.solution.imports == ("numpy",)
    assert manifest.reference == root.parent.parent / "reference"
    stage = manifest.stages[0]
    assert (stage.tiers, stage.hints) == (("cpu",), ())
    assert manifest.stage_at(root / "hidden/1_naive.py") is stage
    assert manifest.stage_at(root / "hidden/baseline.py") is None
    assert manifest.stage_number(stage) == 1
    budget = manifest.budget_of("test_fast")
    assert budget is manifest.budgets[0]
    assert manifest.budget_of("test_other") is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("title = ", "not TOML: Invalid value (at end of document)"),
        ("titel = 'x'", "titel: unknown key; did you mean title?"),
        (TOP + "stages = 1\n" + STAGE, "stages: unknown key; did you mean stage?"),
        (TOP + STAGE + "[[budgets]]", "budgets: unknown key; did you mean budget?"),
        (TOP + "zzz = 1\n" + STAGE, f"zzz: unknown key; known are budget, {KNOWN}"),
        (TOP + STAGE + "tier = []", "stage 1.tier: unknown key; did you mean tiers?"),
        ("track = 'core'\n" + STAGE, "title: missing, wanted a text"),
        (TOP.replace('"core"', "7") + STAGE, "track: wanted a text, got int 7"),
        (TOP.replace('"core"', '""') + STAGE, "track: wanted a text, got str ''"),
        (TOP + "version = true\n" + STAGE, "version: wanted a whole number above 0, got bool True"),
        (TOP + "minutes = 0\n" + STAGE, "minutes: wanted a whole number above 0, got int 0"),
        (TOP + "timeout = nan\n" + STAGE, "timeout: wanted a number above 0, got float nan"),
        (TOP + "timeout = inf\n" + STAGE, "timeout: wanted a number above 0, got float inf"),
        (TOP + "timeout = true\n" + STAGE, "timeout: wanted a number above 0, got bool True"),
        (TOP + "needs = 'a'\n" + STAGE, "needs: wanted a list of texts, got str 'a'"),
        (TOP + "needs = [1]\n" + STAGE, "needs: wanted a list of texts, got list [1]"),
        (TOP + "kit = 'jax'\n" + STAGE, "kit: wanted one of np, torch, triton, got 'jax'"),
        (TOP + "solution = 3\n" + STAGE, "solution: wanted a table, got int 3"),
        (TOP + "stage = 3", "stage: wanted [[stage]] tables, got int 3"),
        (TOP + "stage = [3]", "stage 1: wanted a table, got int 3"),
        (TOP, "stage: missing, wanted at least one [[stage]]"),
        (
            TOP + STAGE.replace("1_naive", "2_no"),
            "stage 1.file: wanted a file, there is no hidden/2_no.py",
        ),
        (
            TOP + STAGE.replace("hidden/", ""),
            "stage 1.file: wanted hidden/<name>.py, got 1_naive.py",
        ),
        (
            TOP + STAGE.replace("hidden/", "hidden/../"),
            "stage 1.file: wanted hidden/<name>.py, got hidden/../1_naive.py",
        ),
        (
            TOP + STAGE.replace("1_naive.py", "1_naive"),
            "stage 1.file: wanted hidden/<name>.py, got hidden/1_naive",
        ),
        (
            TOP + STAGE.replace('"naive"', '"na-ive"'),
            "stage 1.name: wanted small letters, digits and _, got 'na-ive'",
        ),
        (TOP + STAGE + STAGE, "stage 2.name: 'naive' is taken by another stage"),
        (
            TOP + STAGE + STAGE.replace('"naive"', '"other"'),
            "stage 2.file: 'hidden/1_naive.py' is taken by another stage",
        ),
        (
            TOP + STAGE + "tiers = ['tpu']",
            "stage 1.tiers: wanted one of cpu, gpu, multi_gpu, slow, got 'tpu'",
        ),
        (
            TOP + STAGE + BUDGET.replace('"race"', '"run"'),
            "budget 1.kind: wanted one of race, scaling, peak, count, got 'run'",
        ),
        (
            TOP + STAGE + BUDGET.replace('"naive"', '"other"'),
            "budget 1.stage: wanted one of naive, got 'other'",
        ),
        (
            TOP + STAGE + BUDGET.replace("0.5", "-1"),
            "budget 1.limit: wanted a number above 0, got int -1",
        ),
        (TOP + '"a\\nb\\u001b" = 1\n' + STAGE, f"a b : unknown key; known are budget, {KNOWN}"),
    ],
)
def test_each_mistake_is_one_line_with_key_and_cure(root: Path, text: str, said: str) -> None:
    """A mistake names the key and what was wanted there."""
    assert error(root, text) == said


def test_the_directory_has_to_be_an_id(tmp_path: Path) -> None:
    """A challenge is named by its directory: a number and a name."""
    root = tmp_path / "challenges" / "KV"
    (root / "hidden").mkdir(parents=True)
    (root / "hidden" / "1_naive.py").write_text("")

    assert error(root, TOP + STAGE) == "directory: wanted a name like 04_kv_cache, got KV"


def test_a_byte_order_mark_and_windows_lines_do_no_harm(root: Path) -> None:
    """What an editor on Windows writes is read."""
    text = (TOP + STAGE).replace("\n", "\r\n").encode("utf-8-sig")
    (root / "challenge.toml").write_bytes(text)

    assert load(root).title == "KV cache"


@pytest.mark.parametrize(
    "junk", [b"\xff\xfe\x00", b"\x00", b"a = " + b"[" * 5000, b"x" * 100_000, b"a = 1979-13-41"]
)
def test_junk_is_not_toml(root: Path, junk: bytes) -> None:
    """Bytes that are no text, and nesting without end, get the same one line."""
    (root / "challenge.toml").write_bytes(junk)

    with pytest.raises(ManifestError, match=r"challenge\.toml: not TOML: "):
        load(root)


def test_a_missing_manifest_is_named(root: Path) -> None:
    """Without a file there is nothing to read, and the path says where it was looked for."""
    with pytest.raises(ManifestError, match=r"challenge\.toml: cannot be read: No such file"):
        load(root)


VALUES = st.recursive(
    st.sampled_from(
        ["true", "-1", "0.5", "nan", '""', '"x"', "1979-05-27", "1979-05-27T07:32:00Z"]
    ),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]")
        | inner.map(lambda item: f"{{ a = {item} }}")
    ),
    max_leaves=5,
)
KEYS = ["title", "kit", "version", "timeout", "needs", "solution", "stage", "budget", "root", "id"]


@settings(max_examples=200, derandomize=True, deadline=None, database=None)
@given(table=st.dictionaries(st.sampled_from(KEYS), VALUES, min_size=1))
def test_any_table_is_a_manifest_or_one_line(
    tmp_path_factory: pytest.TempPathFactory, table: dict[str, str]
) -> None:
    """Whatever TOML a manifest holds, the answer is a value or a ManifestError of one line."""
    root = tmp_path_factory.mktemp("junk") / "01_x"
    root.mkdir()
    (root / "challenge.toml").write_text("\n".join(f"{k} = {v}" for k, v in table.items()))

    with pytest.raises(ManifestError) as caught:
        load(root)

    assert "\n" not in str(caught.value)


def test_an_edited_manifest_is_read_again(root: Path) -> None:
    """A manifest is cached by its time and size, so an edit counts."""
    (root / "challenge.toml").write_text(TOP + STAGE)
    load(root)
    (root / "challenge.toml").write_text(TOP.replace("KV cache", "Cache") + STAGE)

    assert load(root).title == "Cache"


def test_enclosing_finds_the_challenge_of_a_file(root: Path) -> None:
    """From a hidden file, from the directory itself, and from nowhere."""
    (root / "challenge.toml").write_text(TOP + STAGE)

    assert manifests.enclosing(root / "hidden" / "1_naive.py") == root
    assert manifests.enclosing(root) == root
    assert manifests.enclosing(root.parent) is None
