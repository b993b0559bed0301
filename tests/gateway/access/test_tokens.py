"""Tokens and credentials: what they derive from, and that the secret is one."""

import base64
import os
import stat
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from subprocess import PIPE, Popen

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.access.tokens import PREFIX, BadSecretFile, Secret, Tokens, check, load_secret, sha256
from projections.session_state import Token

LENGTHS = st.integers(22, 86)
SECRETS = st.binary(min_size=32, max_size=64)
NAMES = st.text(min_size=1, max_size=40)
NOW = datetime(2026, 1, 18, 22, 29, 4, tzinfo=UTC)


@given(SECRETS, LENGTHS, NAMES, st.integers(1, 10**9))
def test_processes_with_one_secret_make_the_same_token(
    secret: bytes, length: int, session_id: str, serial: int
) -> None:
    """Nothing is stored, so every process must come to it by itself."""
    one, other = Tokens(Secret.of(secret), length), Tokens(Secret.of(bytes(secret)), length)
    token = one.token(session_id, serial)
    assert token == other.token(session_id, serial)
    assert len(token) == len(PREFIX) + length
    assert set(token) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
    assert one.secret_id == other.secret_id


@given(SECRETS, SECRETS, LENGTHS, NAMES)
def test_another_secret_makes_another_token(one: bytes, other: bytes, length: int, session_id: str) -> None:
    told = {Tokens(Secret.of(secret), length).token(session_id, 1) for secret in (one, other)}
    assert len(told) == len({one, other})


@given(SECRETS, LENGTHS, st.lists(st.tuples(NAMES, st.integers(1, 10**6)), min_size=2, max_size=8, unique=True))
def test_no_two_purposes_share_a_value(secret: bytes, length: int, wanted: list[tuple[str, int]]) -> None:
    """Not two sessions, not two serials, and no container's credential is ever a session's token.

    A name may hold the separator: ``a|1`` with the serial 2 must not be ``a`` with a serial ``1|2``.
    """
    tokens = Tokens(Secret.of(secret), length)
    values = [tokens.token(name, serial).removeprefix(PREFIX)[:22] for name, serial in wanted]
    values += [tokens.credential(name)[:22] for name in {name for name, _ in wanted}]
    assert len(set(values)) == len(values)


def test_a_secret_is_named_without_being_told() -> None:
    """The log holds the id, and the id must not help to find the secret: it is no plain hash of it."""
    secret = Secret.of(b"s" * 32)
    assert secret.id != sha256("s" * 32)[:12]
    assert len(secret.id) == 12


def test_the_credential_opens_the_container_as_basic() -> None:
    tokens = Tokens(Secret.of(b"s" * 32), 32)
    scheme, _, value = tokens.authorization("c1").partition(b" ")
    assert (scheme, base64.b64decode(value).decode()) == (b"Basic", f"opencode:{tokens.credential('c1')}")


def test_the_secret_of_a_setting_is_used_as_it_is(tmp_path: Path) -> None:
    assert load_secret("x" * 32, tmp_path / "none") == Secret.of(b"x" * 32)
    assert not (tmp_path / "none").exists()


def test_auto_makes_one_secret_for_its_owner_alone(tmp_path: Path) -> None:
    """0600 whatever the umask says, in a folder of 0700, 32 random bytes in hex, the same at the next start."""
    file = tmp_path / "deep" / "secret"
    before = os.umask(0)
    try:
        first = load_secret("auto", file)
    finally:
        os.umask(before)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert len(bytes.fromhex(first.value.decode())) == 32
    assert load_secret("auto", file) == first
    assert load_secret(file.read_text().strip(), tmp_path / "none") == first  # the text as a setting: the same secret
    assert [path.name for path in file.parent.iterdir()] == ["secret"]


RACER = """
import sys
from pathlib import Path
from gateway.access.tokens import load_secret
print("ready", flush=True)
for line in sys.stdin:
    print(load_secret("auto", Path(line.strip())).value.hex(), flush=True)
"""


def test_racing_processes_have_one_secret(tmp_path: Path) -> None:
    """Two gateways that start at once on one data directory must not make tokens that the other refuses."""
    with ExitStack() as stack:
        racers = [
            stack.enter_context(Popen([sys.executable, "-c", RACER], stdin=PIPE, stdout=PIPE, text=True))
            for _ in range(3)
        ]
        pipes = [(racer.stdin, racer.stdout) for racer in racers if racer.stdin and racer.stdout]
        assert [out.readline() for _, out in pipes] == ["ready\n"] * 3
        for nth in range(20):
            for into, _ in pipes:
                into.write(f"{tmp_path / f'secret-{nth}'}\n")
                into.flush()
            assert len({out.readline() for _, out in pipes}) == 1
        for into, _ in pipes:
            into.close()


def test_racers_of_the_same_pid_have_one_whole_secret(tmp_path: Path) -> None:
    """In containers every gateway is process 1: its own file must not be known by the pid.

    A second writer of that file would cut the secret that the first one had just put in place: of 400 starts of eight
    racers, 400 failed for one of them, and in 19 to 41 (three rounds) one worked on with an empty secret.
    """
    with ThreadPoolExecutor(8) as pool:
        for nth in range(40):
            told = set(pool.map(lambda file: load_secret("auto", file).value, [tmp_path / f"secret-{nth}"] * 8))
            assert len(told) == 1
            assert len(told.pop()) == 64


@pytest.mark.parametrize("content", ["", "abcd", "not hex at all, but long enough to be one" * 2])
def test_a_damaged_secret_file_is_not_used(tmp_path: Path, content: str) -> None:
    """An empty key would let everybody make tokens; the sentence names the file and nothing of what it holds."""
    file = tmp_path / "secret"
    file.write_text(content)
    with pytest.raises(BadSecretFile) as raised:
        load_secret("auto", file)
    assert str(file) in str(raised.value)
    assert not content or content not in str(raised.value)
    assert file.read_text() == content


def token(serial: int = 1, *, presented: str = "gwt_right", hours: float = 1, revoked: bool = False) -> Token:
    return Token(serial, sha256(presented), "id", NOW + timedelta(hours=hours), revoked)


@pytest.mark.parametrize(
    ("presented", "known", "slug"),
    [
        ("gwt_right", token(), None),
        (None, token(), "no-credential"),
        ("", token(), "no-credential"),
        ("gwt_wrong", token(), "bad-credential"),
        ("gwt_right", None, "bad-credential"),
        ("gwt_right ", token(), "bad-credential"),
        ("\udcff\udc80", token(), "bad-credential"),
        ("gwt_right", token(revoked=True), "revoked-credential"),
        ("gwt_right", token(hours=0), "expired-credential"),
        ("gwt_right", token(hours=-1, revoked=True), "revoked-credential"),
        # Who does not hold the token is not told that it was revoked or has expired.
        ("gwt_wrong", token(revoked=True), "bad-credential"),
        ("gwt_wrong", token(hours=-1), "bad-credential"),
    ],
)
def test_a_token_opens_its_session_and_nothing_else(
    presented: str | None, known: Token | None, slug: str | None
) -> None:
    refusal = check(presented, known, NOW)
    assert (refusal.slug if refusal else None) == slug


def test_a_repeat_is_named_alike_and_cannot_be_guessed() -> None:
    """The same on every worker; another key, caller or secret is another name, and the parts cannot run together."""
    tokens = Tokens(Secret.of(b"a" * 32), 32)
    assert tokens.repeat_id("k1", "once") == Tokens(Secret.of(b"a" * 32), 22).repeat_id("k1", "once")
    others = [tokens.repeat_id("k2", "once"), tokens.repeat_id("k1", "twice"), tokens.repeat_id("k1|", "once")]
    others.append(Tokens(Secret.of(b"b" * 32), 32).repeat_id("k1", "once"))
    assert len({tokens.repeat_id("k1", "once"), *others}) == 5
