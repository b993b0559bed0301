"""Events that were ever written stay readable, and a type does not change its shape under one version."""

import hashlib
import re
from pathlib import Path

import msgspec
import pytest
import rfc8785

from events import codec
from events.catalogue import SessionReady
from events.registry import EVENT_TYPES, EventType
from events.upcasters import UPCASTERS
from tests.factories import SAMPLES, event, recorded
from tests.golden import __main__ as command
from tests.golden import files

by_tag = pytest.mark.parametrize("known", EVENT_TYPES.values(), ids=lambda known: known.tag)
PAYLOADS = sorted(files.PAYLOADS.glob("*.json"))
LEAVES = msgspec.json.decode(files.LEAVES.read_bytes(), type=list[files.Leaf])
HOW_TO = """
{tag} changed its shape, but its schema version is still {version}, and logs hold events of the former shape.
Either undo the change, or make it a new version:
  1. events/registry.py: _VERSIONS["{tag}"] = {next}
  2. events/upcasters.py: UPCASTERS["{tag}", {version}] turns the former payload into the new one
  3. tests/factories.py: the sample of {tag}
  4. python -m tests.golden adds {tag}.v{next}.json; the files of version {version} stay as they are."""


def told(known: EventType) -> str:
    return HOW_TO.format(tag=known.tag, version=known.schema_version, next=known.schema_version + 1)


@by_tag
def test_each_version_of_each_type_has_a_golden_file(known: EventType) -> None:
    for version in range(1, known.schema_version + 1):
        for folder in (files.PAYLOADS, files.SHAPES):
            assert (folder / files.name_of(known.tag, version)).exists(), (
                f"{known.tag} version {version} has no golden file: python -m tests.golden"
            )


@by_tag
def test_each_version_but_the_newest_has_an_upcaster(known: EventType) -> None:
    steps = {version for tag, version in UPCASTERS if tag == known.tag}
    assert steps == set(range(1, known.schema_version))


@by_tag
def test_type_has_the_shape_of_its_golden_file(known: EventType) -> None:
    """A field that is added, removed, renamed or given another type or default is a new version.

    Once it was not: decision 34 tells why session.requested got two fields under version 1.
    """
    golden = msgspec.json.decode((files.SHAPES / files.name_of(known.tag, known.schema_version)).read_bytes())
    assert files.shape(known.payload) == golden, told(known)


@by_tag
def test_newest_golden_payload_is_written_the_same_today(known: EventType) -> None:
    """Byte for byte: two releases must not write one fact in two ways."""
    golden = (files.PAYLOADS / files.name_of(known.tag, known.schema_version)).read_bytes()
    read = codec.decode(recorded(msgspec.structs.replace(event(known.payload), payload=golden)))
    assert isinstance(read, known.payload), told(known)
    assert codec.canonical(read) == golden, told(known)
    assert golden == rfc8785.dumps(msgspec.json.decode(golden))


@pytest.mark.parametrize("path", PAYLOADS, ids=lambda path: path.stem)
def test_every_golden_payload_is_readable(path: Path) -> None:
    """Each event ever written folds in the newest shape, through its upcasters."""
    tag, version = _named(path)
    data = msgspec.structs.replace(event(), type=tag, schema_version=version, payload=path.read_bytes())
    assert isinstance(codec.decode(recorded(data)), EVENT_TYPES[tag].payload)


@pytest.mark.parametrize("folder", [files.PAYLOADS, files.SHAPES], ids=lambda folder: folder.name)
def test_no_golden_file_is_of_a_type_that_is_gone(folder: Path) -> None:
    """A type is never removed: its events are in somebody's log."""
    for path in folder.iterdir():
        tag, version = _named(path)
        assert tag in EVENT_TYPES and 1 <= version <= EVENT_TYPES[tag].schema_version, path.name


def test_every_sample_has_every_field_filled() -> None:
    """A golden file shows all of a type."""
    for sample in SAMPLES.values():
        empty = [name for name in sample.__struct_fields__ if getattr(sample, name) in (None, ())]
        assert not empty, f"{type(sample).__name__}: {empty}"


@pytest.mark.parametrize("golden", LEAVES, ids=lambda golden: golden.recorded["type"])
def test_leaf_bytes_never_change(golden: files.Leaf) -> None:
    """Hashes of every log cover them; there is no new version of a leaf that was hashed."""
    leaf = codec.leaf_bytes(files.rebuilt(golden.recorded))
    assert leaf == golden.leaf.encode()
    assert hashlib.sha256(leaf).hexdigest() == golden.sha256


@pytest.mark.parametrize("golden", LEAVES, ids=lambda golden: golden.recorded["type"])
def test_leaf_can_be_made_without_our_code(golden: files.Leaf) -> None:
    """As a verifier in another language would: the fields as they are, RFC 8785, times with six digits."""
    fields = dict(golden.recorded, leaf=1)
    for name in ("occurred_at", "recorded_at"):
        seconds, _, digits = fields[name].rstrip("Z").partition(".")
        fields[name] = f"{seconds}.{digits:0<6}Z"
    assert rfc8785.dumps(fields) == golden.leaf.encode()


@pytest.mark.parametrize("golden", LEAVES, ids=lambda golden: golden.recorded["type"])
def test_actor_is_written_the_same_today(golden: files.Leaf) -> None:
    """It has no version of its own: a field may be added with a default, and only here would that be seen."""
    assert codec.canonical(codec.decode_actor(files.rebuilt(golden.recorded))) == golden.recorded["actor"].encode()


def test_leaves_hold_every_field_with_and_without_a_value() -> None:
    optional = ("causation_id", "correlation_id", "trace_id", "span_id")
    for name in optional:
        assert {golden.recorded[name] is None for golden in LEAVES} == {True, False}


def test_command_adds_what_is_missing_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A golden file that could be made anew would agree with any mistake."""
    for name, path in (("FOLDER", "."), ("PAYLOADS", "events"), ("SHAPES", "shapes"), ("LEAVES", "leaf.v1.json")):
        monkeypatch.setattr(files, name, tmp_path / path)
    kept = files.PAYLOADS / "session.ready.v1.json"
    kept.parent.mkdir()
    kept.write_text("as it was")
    assert command.main() == 0
    assert kept.read_text() == "as it was"
    assert {path.name for path in files.SHAPES.iterdir()} == {
        files.name_of(known.tag, known.schema_version) for known in EVENT_TYPES.values()
    }
    assert files.LEAVES.exists() and not files.missing()
    capsys.readouterr()
    assert command.main() == 0
    assert capsys.readouterr().out == "nothing is missing\n"


def test_shape_tells_every_change_of_a_field() -> None:
    """What the shape does not show could change unseen."""
    former = files.shape(SessionReady)

    def of(**fields: object) -> dict[str, str]:
        annotations = {"session_id": str, "generation": int, "container": str, "boot_us": int, **fields}
        named = [(name, *kind) if isinstance(kind, tuple) else (name, kind) for name, kind in annotations.items()]
        return files.shape(msgspec.defstruct("SessionReady", named, kw_only=True))

    assert of() == former
    changes: list[dict[str, object]] = [
        {"more": str},
        {"boot_us": str},
        {"boot_us": int | None},
        {"boot_us": (int, 0)},
        {"container": tuple[str, ...]},
    ]
    shapes = [of(**change) for change in changes]
    assert all(shape != former for shape in shapes)


def _named(path: Path) -> tuple[str, int]:
    match = re.fullmatch(r"([a-z_]+\.[a-z_]+)\.v([1-9][0-9]*)\.json", path.name)
    assert match, f"{path.name} is not named <type>.v<version>.json"
    return match[1], int(match[2])
