"""Which certificate files are in use: only what can be used is taken up, however it comes."""

import datetime as dt
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from docker import identity
from docker.authority import Authority
from docker.errors import BadCertificateFiles
from docker.identity import Credentials, Identity, Refused, Taken
from docker.settings import DockerSettings
from docker.tls import ssl_context
from tests.docker.cert_folder import Clock, issue, replace, settings_of


class Watched:
    """Credentials on a folder, a clock, and what they told."""

    def __init__(self, folder: Path, authority: Authority) -> None:
        self.folder, self.authority = folder, authority
        issue(folder, authority)
        self.clock = Clock()
        self.told: list[Taken | Refused] = []
        self.credentials = Credentials(settings_of(folder), now=self.clock.now, monotonic=self.clock.monotonic)
        self.credentials.on_change(self.told.append)
        self.first = self.credentials.identity()

    def later(self) -> Identity:
        self.clock.pass_by()
        return self.credentials.identity()

    def refuse(self) -> Refused:
        """What is refused at the second look; at the first nothing is told."""
        before = len(self.told)
        assert self.later() is self.first
        assert len(self.told) == before
        assert self.later() is self.first
        refused = self.told[-1]
        assert isinstance(refused, Refused)
        assert self.credentials.refused == refused
        return refused


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path / "certs", Authority())


def test_files_are_looked_at_once_a_second(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every call asks, hundreds a second."""
    looks: list[Path] = []
    status = identity._status

    def counted(path: Path) -> tuple[int, ...]:
        looks.append(path)
        return status(path)

    monkeypatch.setattr(identity, "_status", counted)
    for _ in range(1000):
        watched.clock.pass_by(0.001)
        watched.credentials.identity()
    watched.clock.pass_by(0.001)
    watched.credentials.identity()
    assert len(looks) == 3  # one look at three files


def test_files_that_do_not_change_are_not_read_again(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(2):
        watched.later()
    reads: list[Path] = []
    monkeypatch.setattr(identity, "_content", reads.append)
    for _ in range(10):
        assert watched.later() is watched.first
    assert reads == []


def test_a_new_pair_is_taken_up(watched: Watched) -> None:
    issue(watched.folder, watched.authority)
    assert watched.credentials.identity() is watched.first, "within the second"
    after = watched.later()
    assert after.client != watched.first.client
    assert after.context is not watched.first.context
    assert after.authorities == watched.first.authorities
    assert watched.told == [Taken(watched.first, after)]
    assert watched.later() is after and len(watched.told) == 1


def test_a_folder_that_is_exchanged_by_a_link_is_taken_up(tmp_path: Path) -> None:
    """As Kubernetes does with secrets: ``..data`` points to another folder, and no file was touched."""
    authority = Authority()
    for name in ("one", "two"):
        issue(tmp_path / name, authority)
    (tmp_path / "..data").symlink_to("one")
    (tmp_path / "certs").mkdir()
    for name in ("ca.pem", "client-cert.pem", "client-key.pem"):
        (tmp_path / "certs" / name).symlink_to(f"../..data/{name}")
    clock = Clock()
    credentials = Credentials(settings_of(tmp_path / "certs"), now=clock.now, monotonic=clock.monotonic)
    before = credentials.identity()
    (tmp_path / "..new").symlink_to("two")
    os.replace(tmp_path / "..new", tmp_path / "..data")
    clock.pass_by()
    assert credentials.identity().client != before.client


def test_files_that_are_copied_one_by_one_are_taken_up_when_all_are_there(watched: Watched) -> None:
    """For a moment the certificate is new and the key is old: nobody is told of a moment."""
    certificate, key = watched.authority.client()
    replace(watched.folder, client_cert=certificate)
    assert watched.later() is watched.first
    replace(watched.folder, client_key=key)
    assert watched.later() is not watched.first
    assert [type(each) for each in watched.told] == [Taken]


def test_a_pair_that_stays_half_copied_is_told_once_and_taken_up_when_it_is_whole(watched: Watched) -> None:
    certificate, key = watched.authority.client()
    replace(watched.folder, client_cert=certificate)
    assert watched.refuse().reason == "key_mismatch"
    for _ in range(5):
        assert watched.later() is watched.first
    assert len(watched.told) == 1
    replace(watched.folder, client_key=key)
    after = watched.later()
    assert after is not watched.first and watched.credentials.refused is None
    assert watched.told[1:] == [Taken(watched.first, after)]


def test_what_is_refused_is_told_once_until_good_files_lay_there(watched: Watched) -> None:
    """Each time that it happens is told: who looks for the second finds it in the log."""
    held = (watched.folder / "client-cert.pem").read_bytes()
    for episode in (1, 2):
        for content in (b"nothing", b"nothing else", b"nothing"):
            replace(watched.folder, client_cert=content)
            for _ in range(3):
                watched.later()
            assert watched.credentials.refused is not None
        assert len(watched.told) == 2 * episode
        replace(watched.folder, client_cert=held)
        assert watched.later() is watched.first
        assert watched.credentials.refused is None


def test_another_reason_for_the_same_files_is_told(watched: Watched) -> None:
    """They were not valid yet, and have ended before anybody could use them."""
    _of_a_time(watched, dt.timedelta(days=9))
    assert watched.refuse().reason == "not_yet_valid"
    watched.clock.pass_by(dt.timedelta(days=12).total_seconds())
    assert [watched.later(), watched.later()] == [watched.first] * 2
    assert [each.reason for each in watched.told if isinstance(each, Refused)] == ["not_yet_valid", "expired"]


@pytest.mark.timeout(20)
def test_what_is_no_file_is_refused_and_not_waited_for(watched: Watched) -> None:
    """It is looked at on the loop that serves everybody."""
    (watched.folder / "client-key.pem").unlink()
    os.mkfifo(watched.folder / "client-key.pem")
    assert watched.refuse().reason == "unreadable"
    with pytest.raises(BadCertificateFiles, match="not a plain file"):
        Credentials(settings_of(watched.folder)).identity()


def test_files_that_stay_refused_are_parsed_once(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    _of_another_ca(watched)
    watched.refuse()
    parsed: list[object] = []
    monkeypatch.setattr(identity, "held", parsed.append)
    for _ in range(10):
        watched.later()
    assert parsed == [] and watched.credentials.refused is not None


def _of_another_ca(watched: Watched) -> None:
    certificate, key = Authority().client()
    replace(watched.folder, client_cert=certificate, client_key=key)


def _for_daemons(watched: Watched) -> None:
    certificate, key = watched.authority.server(["127.0.0.1"])
    replace(watched.folder, client_cert=certificate, client_key=key)


def _of_an_odd_curve(watched: Watched) -> None:
    """OpenSSL loads it, and then has no way to sign with it under TLS 1.3."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ec, "SECP256R1", ec.SECP256K1)
        certificate, key = watched.authority.client()
    replace(watched.folder, client_cert=certificate, client_key=key)


def _of_a_time(watched: Watched, begin: dt.timedelta) -> None:
    issue(watched.folder, Authority(days=2, now=watched.clock.wall + begin))


FAULTS: dict[str, list[Callable[[Watched], object]]] = {
    "unreadable": [
        lambda watched: (watched.folder / "client-key.pem").unlink(),
        lambda watched: replace(watched.folder, ca=b""),
        lambda watched: replace(watched.folder, client_key=b"-----BEGIN PRIVATE KEY-----\n"),
    ],
    "key_mismatch": [lambda watched: replace(watched.folder, client_key=Authority().client()[1])],
    "other_ca": [_of_another_ca],
    "wrong_usage": [_for_daemons],
    "weak": [_of_an_odd_curve],
    "expired": [lambda watched: _of_a_time(watched, -dt.timedelta(days=9))],
    "not_yet_valid": [lambda watched: _of_a_time(watched, dt.timedelta(days=9))],
}


@pytest.mark.parametrize(
    ("reason", "nth"), [(reason, nth) for reason, faults in FAULTS.items() for nth in range(len(faults))]
)
def test_what_cannot_be_used_is_refused_with_its_reason(watched: Watched, reason: str, nth: int) -> None:
    FAULTS[reason][nth](watched)
    refused = watched.refuse()
    assert refused.reason == reason
    assert refused.detail[-1] in ".?" and str(watched.folder) not in refused.detail and "BEGIN" not in refused.detail


def test_what_is_not_valid_yet_is_taken_up_when_its_time_comes(watched: Watched) -> None:
    """Nobody touches the files meanwhile."""
    _of_a_time(watched, dt.timedelta(days=9))
    watched.refuse()
    watched.clock.pass_by(dt.timedelta(days=9).total_seconds())
    assert watched.credentials.identity() is not watched.first


def test_a_change_that_the_file_system_does_not_show_is_seen_at_the_next_look(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock of a file ticks every few milliseconds: two writes within a tick look alike."""
    monkeypatch.setattr(identity, "_status", lambda path: (1,))
    watched.later()
    issue(watched.folder, watched.authority)
    assert watched.later() is not watched.first


def test_what_is_loaded_is_what_was_judged(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenSSL reads the key from its file by itself: files that change between are judged again."""
    issue(watched.folder, watched.authority)

    def slow(settings: DockerSettings) -> object:
        issue(watched.folder, watched.authority)
        return ssl_context(settings)

    monkeypatch.setattr(identity, "ssl_context", slow)
    assert watched.later() is watched.first
    monkeypatch.setattr(identity, "ssl_context", ssl_context)
    after = watched.later()
    assert after is not watched.first and len(watched.told) == 1


def test_a_start_without_files_says_so_and_a_later_one_finds_them(tmp_path: Path) -> None:
    clock = Clock()
    credentials = Credentials(settings_of(tmp_path), now=clock.now, monotonic=clock.monotonic)
    with pytest.raises(BadCertificateFiles):
        credentials.identity()
    issue(tmp_path, Authority())
    assert len(credentials.identity().authorities) == 1


def test_every_authority_of_a_bundle_is_known(tmp_path: Path) -> None:
    old, new = Authority(), Authority()
    issue(tmp_path, old, ca=old.certificate + new.certificate)
    found = Credentials(settings_of(tmp_path)).identity()
    assert len({each.sha256 for each in found.authorities}) == 2
    assert all(each.not_after > dt.datetime.now(dt.UTC) for each in found.authorities)
