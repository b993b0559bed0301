"""The house rules: how the tree is built, what may stand in it, and that its pages tell the truth.

Each test names every breach at once. The limits and what they are for: CONTRIBUTING.md.
"""

import ast
import re
import subprocess
from collections.abc import Iterable

import pytest
from hypercorn.config import Config

from events.registry import EVENT_TYPES
from tests.house import pages, rules, tree
from tests.house.tree import Module
from tools import settings_page

SQL_LINES = 120
DECISION_LINES = 40
# Built in pieces, so that this file does not hold what it looks for.
DAEMON_SOCKET = "docker" + ".sock"
REGISTRIES = re.compile(r"(?:pypi|pythonhosted|npmjs|debian)" + r"\.(?:org|com|net)|registry\." + "npm|gh" + r"cr\.io")
MACHINE_PATHS = re.compile(r"(?<![\w.$}])/(?:wor" + "k|ro" + "ot|far" + r"m|Use" + r"rs|ho" + r"me(?!/app\b))/")
# Longer than the examples of tests; in pieces, as above.
KEY_MATERIAL = re.compile(r"-----BEGIN [A-Z ]*(?:PRIVATE KEY|CERTIF" + r"ICATE)-----\s+[A-Za-z0-9+/=]{40}")
KEY_FILES = {".pem", ".key", ".crt", ".p12", ".pfx", ".der"}
LOOSE_ENDS = re.compile(r"\b(?:TO" + "DO|FIX" + "ME|XX" + r"X)\b|Not" + "ImplementedError")

# Sources without a test file of their own name, and what holds them instead. An entry goes when its test comes.
TESTED_ELSEWHERE = {
    "docker/connection.py": "tests/docker/test_aiodocker_service.py",
    "docker/networks.py": "tests/docker/test_aiodocker_service.py",
    "events/keyring_postgres.py": "tests/contracts/test_keyring.py",
    "events/ledger.py": "tests/contracts/test_event_store.py",
    "events/memory.py": "tests/contracts/test_event_store.py",
    "events/store.py": "tests/contracts/test_event_store.py",
}


def none_of(breaches: Iterable[str]) -> None:
    found = sorted(breaches)
    if found:
        pytest.fail("\n  ".join(["breaches of the house rules:", *found]), pytrace=False)


def each(modules: Iterable[Module], rule: object) -> list[str]:
    assert callable(rule)
    return [breach for module in modules for breach in rule(module)]


def test_the_tree_is_seen() -> None:
    """Every other test here passes on an empty list."""
    assert {module.room for module in tree.modules()} >= {*tree.ROOMS, "tests", "tools"}
    assert len(tree.files()) > 50


def test_nothing_outgrows_its_limit() -> None:
    """A file that fits in the head; the limits fail, the goals are printed by make check."""
    none_of(each(tree.modules(), rules.sizes))


def test_promises_are_written_down() -> None:
    """A reader learns from a module what it leaves to whom, and from a name what the types cannot tell."""
    none_of(each(tree.modules(), rules.missing_docstrings))


def test_names_say_something() -> None:
    none_of(each(tree.modules(), rules.empty_names))


def test_a_silenced_check_says_why() -> None:
    none_of(each(tree.modules(), rules.bare_ignores))


def test_a_library_has_one_door() -> None:
    """Ruff lets a door import any guarded library; here each library knows its own doors."""
    config = pages.config()
    allowed, exempt = rules.doors(config), rules.exempt_modules(config)
    assert len(allowed) >= 8
    none_of(breach for module in tree.product() for breach in rules.wrong_doors(module, allowed, exempt))


def test_doors_of_ruff_and_of_the_messages_are_the_same() -> None:
    config = pages.config()
    named = set().union(*rules.doors(config).values())
    assert named == rules.exempt_modules(config)


def test_a_door_is_used() -> None:
    """An exception that nobody needs is a hole."""
    allowed = rules.doors(pages.config())
    imported = {module.path: {name for name, _ in module.imports()} for module in tree.product()}
    none_of(
        f"{path} may import {library} and does not"
        for library, modules in allowed.items()
        for path in modules & imported.keys()
        if not any(name == library or name.startswith(f"{library}.") for name in imported[path])
    )


def test_tests_mirror_sources() -> None:
    """Who opens a test knows what it tests; ``test_x.py`` or ``test_x_aspect.py`` stands where ``x.py`` does."""
    sources = {
        module.path.removeprefix("tests/").removesuffix(".py").removesuffix("/__init__") for module in tree.modules()
    }
    pattern = re.compile(rf"tests/((?:{'|'.join(tree.ROOMS)})(?:/\w+)*)/test_(\w+)\.py")
    none_of(
        f"{module.path} has no source"
        for module in tree.modules()
        if (match := pattern.fullmatch(module.path))
        and not any(f"{match[1]}/{match[2]}_".startswith(f"{source}_") for source in sources)
    )


def test_sources_have_tests() -> None:
    """Where something runs, a test of its name runs it, or the contract that does is named above."""
    none_of(
        f"{module.path} has no test"
        for module in tree.product()
        if not _tested(module) and not rules.only_declares(module) and module.path not in TESTED_ELSEWHERE
    )


def test_what_is_tested_elsewhere_is() -> None:
    modules = {module.path: module for module in tree.product()}
    none_of(
        f"{source} is said to be tested by {test} alone"
        for source, test in TESTED_ELSEWHERE.items()
        if source not in modules or not pages.exists(test) or _tested(modules[source])
    )


def test_every_folder_of_tests_is_a_package() -> None:
    """With one only in tests/docker, ``import docker`` finds the tests."""
    folders = {
        path.parent for path in tree.files() if tree.relative(path).startswith("tests/") and path.suffix == ".py"
    }
    none_of(
        f"{tree.relative(folder)} has no __init__.py" for folder in folders if not (folder / "__init__.py").exists()
    )


def test_nothing_names_the_daemons_socket() -> None:
    """Whoever mounts it is root on the host (spec row A6); those of the programs below and beside it as well."""
    seen = {tree.relative(path) for path in tree.files()}
    assert {"docker/compose.yml", "docker/.env.example", "docker/scripts/generate-certs.sh", "docs/operator.md"} <= seen
    others = [re.escape(name + "." + DAEMON_SOCKET.partition(".")[2]) for name in ("containerd", "podman", "crio")]
    none_of(_lines_with(re.compile("|".join([re.escape(DAEMON_SOCKET), *others]))))


def test_nothing_names_a_registry_or_a_machine() -> None:
    """Packages come through the client that the user has set up, and files lie where he put them."""
    none_of([*_lines_with(REGISTRIES), *_lines_with(MACHINE_PATHS)])


def test_nothing_is_left_loose() -> None:
    none_of(_lines_with(LOOSE_ENDS))


def test_no_key_and_no_certificate_is_kept_in_git() -> None:
    """Whoever reads the repository would be root on the daemon's machine."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=tree.ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("NOT TESTED: this is no clone")
    kept = [path for name in listed.stdout.split("\0") if name and (path := tree.ROOT / name).is_file()]
    assert kept
    none_of(
        tree.relative(path)
        for path in kept
        if path.suffix in KEY_FILES or KEY_MATERIAL.search(path.read_text(encoding="utf-8", errors="replace"))
    )


@pytest.mark.parametrize("name", ["docker/certs/ca-key.pem", "docker/certs/.change/new/key", "client-key.pem"])
def test_git_ignores_where_keys_are_made(name: str) -> None:
    """`git add .` right after `generate-certs.sh` must not take them."""
    asked = subprocess.run(["git", "check-ignore", "--no-index", "-q", name], cwd=tree.ROOT)
    if asked.returncode == 128:
        pytest.skip("NOT TESTED: this is no clone")
    assert asked.returncode == 0


def test_sql_files_open_with_what_they_are() -> None:
    none_of(
        f"{tree.relative(path)} has no comment at its top"
        for path in (tree.ROOT / "sql").glob("*.sql")
        if not path.read_text().startswith("--")
    )


def test_sql_files_are_short() -> None:
    counted = {tree.relative(path): len(path.read_text().splitlines()) for path in (tree.ROOT / "sql").glob("*.sql")}
    none_of(f"{path} has {lines} lines ({SQL_LINES} at most)" for path, lines in counted.items() if lines > SQL_LINES)


def test_a_sql_function_has_its_own_file() -> None:
    """Functions are applied again when their file changes: the file is the function."""
    for path in sorted((tree.ROOT / "sql").glob("2??_*.sql")):
        names = re.findall(r"create or replace (?:function|procedure) (?:\w+\.)?(\w+)", path.read_text().lower())
        assert names == [path.stem[4:]], f"{path.name} makes {names}"


def test_every_event_is_in_the_readme() -> None:
    """The list of the log's vocabulary, for those who read it without the code."""
    assert set(pages.table("events/README.md", "event")) == set(EVENT_TYPES)


def test_a_room_lists_its_files() -> None:
    """The README is where a newcomer looks for the file of a concern."""
    for room in tree.ROOMS:
        text = pages.text(f"{room}/README.md")
        names = [path.stem for path in sorted((tree.ROOT / room).glob("*.py")) if not path.stem.startswith("__")]
        missing = [name for name in names if not re.search(rf"`(?:[\w./]*/)?{name}(?:\.py)?`", text)]
        assert missing == [], f"{room}/README.md"


def test_the_readme_of_sql_names_every_file() -> None:
    text = pages.text("sql/README.md")
    names = [path.stem.partition("_")[2] for path in sorted((tree.ROOT / "sql").glob("*.sql"))]
    assert [name for name in names if not re.search(rf"`(?:\w+\.|\d+_)?{name}`", text)] == []


def test_an_event_that_nothing_writes_says_so() -> None:
    """Who asks the log for what no release records yet would take silence for health."""
    made = {
        name.id if isinstance(name := node.func, ast.Name) else getattr(name, "attr", "")
        for module in tree.product()
        if not module.path.startswith("events/catalogue/")
        for node in module.nodes
        if isinstance(node, ast.Call)
    }
    told = {tag for tag, cells in pages.table("events/README.md", "event").items() if "nothing writes it" in cells[-1]}
    assert told == {tag for tag, event in EVENT_TYPES.items() if event.payload.__name__ not in made}
    if "health.changed" in told:
        for page in ("CHANGELOG.md", "docs/operator.md", "projections/README.md"):
            text = pages.text(page)
            assert "health_history" not in text or re.search(r"is empty|; empty", text), page


def test_every_setting_is_described() -> None:
    none_of(
        f"{struct.__name__}.{setting.name.lower()} has no description"
        for struct in settings_page.structs()
        for setting in settings_page.settings_of(struct)
        if not setting.meaning
    )


def test_the_page_of_settings_is_the_generated_one() -> None:
    """`make docs` writes it."""
    assert pages.text("docs/settings.md") == settings_page.page()


@pytest.mark.skipif(not pages.exists("gateway/errors.py"), reason="gateway/errors.py is not written yet")
def test_every_problem_is_in_the_docs() -> None:
    """Clients decide by ``type`` and by close code whether to try again."""
    from gateway.errors import CLOSE_CODES, PROBLEMS

    told = pages.table("docs/problems.md", "type")
    assert {slug: row[:3] for slug, row in told.items()} == {
        slug: [str(problem.status), problem.title, problem.retry] for slug, problem in PROBLEMS.items()
    }
    assert {int(code) for code in pages.table("docs/problems.md", "close code")} == set(CLOSE_CODES)


@pytest.mark.skipif(not pages.exists("hypercorn.toml"), reason="hypercorn.toml is not written yet")
def test_hypercorn_knows_our_keys() -> None:
    """It takes any key in silence."""
    import tomllib

    known = {name for name in dir(Config) if not name.startswith("_") and not callable(getattr(Config, name))}
    assert set(tomllib.loads(pages.text("hypercorn.toml"))) <= known - {"read_timeout", "workers"}


def test_the_changelog_waits_for_the_next_release() -> None:
    assert re.search(r"^## Unreleased$", pages.text("CHANGELOG.md"), re.MULTILINE)


def test_pages_name_commands_that_exist() -> None:
    targets = pages.make_targets()
    assert {"run", "test", "check"} <= targets
    none_of(f"{page}: make {name}" for page, name in pages.named_targets() if name not in targets)


def test_decisions_are_short_and_numbered_once() -> None:
    records = sorted((tree.ROOT / "docs/decisions").glob("*.md"))
    assert [int(path.name[:4]) for path in records] == list(range(1, len(records) + 1))
    none_of(
        f"{path.name} has {lines} lines (under {DECISION_LINES})"
        for path in records
        if (lines := len(path.read_text().splitlines())) >= DECISION_LINES
    )


def test_one_environment_serves_both_locks() -> None:
    """`make run` after `make test` installs nothing: the runtime's pins are among the developer's."""
    runtime, developer = pages.pins("requirements.lock"), pages.pins("requirements-dev.lock")
    assert runtime
    assert runtime <= developer
    assert "://" not in pages.text("requirements.lock") + pages.text("requirements-dev.lock")


def _tested(module: Module) -> bool:
    folder, _, name = module.path.removesuffix(".py").rpartition("/")
    return any(
        other.path.startswith((f"tests/{folder}/test_{name}.", f"tests/{folder}/test_{name}_"))
        for other in tree.modules()
    )


def _lines_with(pattern: re.Pattern[str]) -> list[str]:
    found = []
    for path in tree.files():
        if path.suffix == ".lock":
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            if match := pattern.search(line):
                found.append(f"{tree.relative(path)}:{number} {match[0]}")
    return found
