"""One certificate is renewed, or the CA replaced, and the two sides understand each other at every moment."""

import datetime as dt
import itertools
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509

from docker import certs
from docker.authority import DAYS
from docker.cert_files import belongs, certificates, private_key, signed_by, usable
from docker.cert_placing import alone
from docker.errors import BadCertificateFiles
from docker.identity import Credentials, Refused, Taken
from docker.settings import DockerSettings
from tests.docker.steps import Steps, until_done

NOW = dt.datetime.now(dt.UTC)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "certs"
    certs.generate(folder, hosts=["10.0.0.5", "box"], environment="production", days=100)
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "certs"))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def changed(before: dict[str, bytes], after: dict[str, bytes]) -> set[str]:
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


def read(folder: Path, name: str) -> x509.Certificate:
    return certificates((folder / name).read_bytes(), name)[0]


def accepts(folder: Path, former: Path) -> bool:
    """Whether a client with the files of ``folder`` is accepted by a daemon that started with those of ``former``."""
    certificate, key = ((folder / name).read_bytes() for name in ("client-cert.pem", "client-key.pem"))
    return usable((former / "ca.pem").read_bytes(), certificate, key, NOW) is None


def trusts(folder: Path, former: Path) -> bool:
    """Whether a client with the files of ``folder`` trusts the daemon that started with those of ``former``."""
    bundle = certificates((folder / "ca.pem").read_bytes(), "ca.pem")
    return any(signed_by(read(former, "server-cert.pem"), each) for each in bundle)


def understand(gateway: Path, daemon: Path) -> bool:
    return accepts(gateway, daemon) and trusts(gateway, daemon)


def copy(source: Path, target: Path, *names: str) -> None:
    for name in names:
        (target / name).unlink(missing_ok=True)
        shutil.copy2(source / name, target / name)


def test_the_clients_pair_is_renewed_and_nothing_else(folder: Path) -> None:
    before = contents(folder)
    change = certs.renew(folder, "client", days=30, now=NOW)
    assert changed(before, contents(folder)) == {"client-cert.pem", "client-key.pem"} == set(change.files)
    assert accepts(folder, folder)
    certificate = read(folder, "client-cert.pem")
    assert certificate.not_valid_after_utc == change.not_after == (NOW + dt.timedelta(days=30)).replace(microsecond=0)
    assert certificate.subject.rfc4514_string() == "CN=session-gateway production client"
    assert [(step.machine, step.files) for step in change.deliveries] == [
        ("gateway", ("client-cert.pem", "client-key.pem"))
    ]


def test_the_daemons_certificate_keeps_its_hosts(folder: Path) -> None:
    """Settings of the shell that renews it must not lock out those who use another name of it."""
    before = contents(folder)
    change = certs.renew(folder, "server")
    assert changed(before, contents(folder)) == {"server-cert.pem", "server-key.pem"}
    assert change.hosts == certs.hosts_in(read(folder, "server-cert.pem")) == ("10.0.0.5", "box")
    assert trusts(folder, folder)
    assert certs.renew(folder, "server", hosts=["other"]).hosts == ("other",)


def test_a_certificate_that_is_renewed_does_not_outlive_its_authority(folder: Path) -> None:
    change = certs.renew(folder, "client", days=3650)
    assert change.not_after == read(folder, "ca.pem").not_valid_after_utc


def test_files_with_the_names_of_the_docker_command_keep_them(folder: Path) -> None:
    (folder / "client-cert.pem").rename(folder / "cert.pem")
    (folder / "client-key.pem").rename(folder / "key.pem")
    before = contents(folder)
    assert certs.renew(folder, "client").files == ("cert.pem", "key.pem")
    assert changed(before, contents(folder)) == {"cert.pem", "key.pem"}
    assert (folder / "key.pem").stat().st_mode & 0o777 == 0o400


def _remove(folder: Path, name: str) -> None:
    (folder / name).unlink()


def _exchange(folder: Path, name: str) -> None:
    (folder / name).unlink()
    (folder / name).write_bytes(certs.Authority().key)


@pytest.mark.parametrize("role", ["client", "server"])
@pytest.mark.parametrize(
    ("fault", "name", "sentence"),
    [
        (_remove, "ca-key.pem", "where the CA's key is kept"),
        (_remove, "ca.pem", r"ca\.pem cannot be read"),
        (_exchange, "ca-key.pem", "is not the key of ca.pem"),
        (_exchange, "ca.pem", "holds no certificate"),
    ],
)
def test_without_the_authoritys_key_nothing_is_renewed(
    folder: Path, role: certs.Role, fault: Callable[[Path, str], object], name: str, sentence: str
) -> None:
    fault(folder, name)
    before = contents(folder)
    with pytest.raises(BadCertificateFiles, match=sentence):
        certs.renew(folder, role)
    assert contents(folder) == before


def test_an_expired_authority_renews_nothing_and_can_be_replaced(folder: Path) -> None:
    later = NOW + dt.timedelta(days=101)
    with pytest.raises(BadCertificateFiles, match="rotate ca"):
        certs.renew(folder, "client", now=later)
    certs.renew(folder, "ca", now=later)


@pytest.mark.parametrize("days", [30, DAYS])
def test_a_clock_before_the_authoritys_begin_is_told(folder: Path, days: int) -> None:
    """A machine that is seldom on, with an empty battery."""
    before = contents(folder)
    with pytest.raises(BadCertificateFiles, match="set this machine's clock"):
        certs.renew(folder, "client", days=days, now=NOW - dt.timedelta(days=4000))
    assert contents(folder) == before


def test_two_changes_of_a_folder_do_not_meet(folder: Path) -> None:
    before = contents(folder)
    roles: tuple[certs.Role, ...] = ("client", "server", "ca")
    with alone(folder):
        for role in roles:
            with pytest.raises(BadCertificateFiles, match="Another run"):
                certs.renew(folder, role)
        with pytest.raises(BadCertificateFiles, match="Another run"):
            certs.finish(folder)
    assert contents(folder) == before


def test_without_a_former_certificate_hosts_must_be_given(folder: Path) -> None:
    (folder / "server-cert.pem").unlink()
    with pytest.raises(BadCertificateFiles, match="--host"):
        certs.renew(folder, "server")
    assert certs.renew(folder, "server", hosts=["box"]).hosts == ("box",)


def test_a_dry_run_writes_nothing(folder: Path) -> None:
    before = contents(folder)
    roles: tuple[certs.Role, ...] = ("client", "server", "ca")
    for role in roles:
        assert certs.renew(folder, role, dry_run=True).dry_run
    assert contents(folder) == before
    with pytest.raises(BadCertificateFiles):
        certs.renew(folder / "absent", "client", dry_run=True)
    assert contents(folder) == before


def test_a_renewal_that_is_killed_anywhere_leaves_files_that_work(folder: Path, made: Path) -> None:
    def start_anew() -> None:
        shutil.rmtree(folder)
        shutil.copytree(made, folder)

    def works() -> None:
        assert accepts(folder, made)

    assert until_done(lambda: certs.renew(folder, "client"), start_anew, works) > 30


def test_a_replaced_authority_locks_nobody_out_at_any_step(folder: Path, made: Path, tmp_path: Path) -> None:
    """Each step of the handing out, in its order, between a gateway and a daemon on two machines."""
    gateway, daemon = (Path(shutil.copytree(made, tmp_path / name)) for name in ("gateway", "daemon"))
    for stage in ("begin", "finish"):
        change = certs.renew(folder, "ca") if stage == "begin" else certs.finish(folder)
        for step in change.deliveries:
            if step.machine != "offline":
                copy(folder, gateway if step.machine == "gateway" else daemon, *step.files)
            assert understand(gateway, daemon), step
    assert contents(gateway)["ca.pem"] == contents(daemon)["ca.pem"] == contents(folder)["ca.pem"]


def test_a_replaced_authority_locks_nobody_out_on_one_machine(folder: Path, made: Path, tmp_path: Path) -> None:
    """The gateway follows the folder at once; the daemon knows what it started with."""
    certs.renew(folder, "ca")
    assert understand(folder, made)
    started = Path(shutil.copytree(folder, tmp_path / "started"))
    assert understand(folder, started)
    certs.finish(folder)
    assert understand(folder, started)
    assert understand(folder, folder)


def test_the_end_of_the_replacement_is_a_revocation(folder: Path, made: Path) -> None:
    certs.renew(folder, "ca")
    assert accepts(made, folder)  # whoever holds the former client's files, for now
    certs.finish(folder)
    assert not accepts(made, folder)
    assert not trusts(folder, made)


def test_the_former_authoritys_key_is_not_kept(folder: Path, made: Path) -> None:
    former = (made / "ca-key.pem").read_bytes()
    certs.renew(folder, "ca")
    assert sorted(contents(folder)) == sorted(certs.FILES)
    assert former not in contents(folder).values()
    bundle = certificates((folder / "ca.pem").read_bytes(), "ca.pem")
    key = private_key((folder / "ca-key.pem").read_bytes(), "ca-key.pem")
    assert [belongs(key, each) for each in bundle] == [True, False]


def test_a_second_replacement_waits_for_the_first(folder: Path) -> None:
    certs.renew(folder, "ca")
    before = contents(folder)
    with pytest.raises(BadCertificateFiles, match="holds 2 CAs: finish"):
        certs.renew(folder, "ca")
    assert contents(folder) == before


def test_there_must_be_something_to_finish(folder: Path) -> None:
    with pytest.raises(BadCertificateFiles, match="no replacement of it is under way"):
        certs.finish(folder)


def test_it_is_not_finished_over_a_daemon_of_the_former_authority(folder: Path, made: Path) -> None:
    certs.renew(folder, "ca")
    copy(made, folder, "server-cert.pem", "server-key.pem")
    with pytest.raises(BadCertificateFiles, match="is not of the new CA"):
        certs.finish(folder)


def test_it_is_not_finished_with_the_former_key(folder: Path, made: Path) -> None:
    """It would leave the new CA out, and lock out the daemon that already runs with it."""
    certs.renew(folder, "ca")
    copy(made, folder, "ca-key.pem")
    with pytest.raises(BadCertificateFiles, match="the key of the former CA"):
        certs.finish(folder)


def test_a_client_that_was_renewed_meanwhile_is_kept(folder: Path) -> None:
    certs.renew(folder, "ca")
    certs.renew(folder, "client")
    before = contents(folder)
    assert certs.finish(folder).files == ("ca.pem",)
    assert changed(before, contents(folder)) == {"ca.pem"}


def test_who_follows_the_files_takes_up_each_change_once_and_refuses_nothing(folder: Path) -> None:
    """A gateway that looks at them before every call of the change, as if a second had passed."""
    clock = itertools.count(step=2.0)
    followed = Credentials(DockerSettings(docker_cert_path=str(folder)), monotonic=lambda: next(clock))
    heard: list[Taken | Refused] = []
    followed.identity()
    followed.on_change(heard.append)
    for change in (
        lambda: certs.renew(folder, "client"),
        lambda: certs.renew(folder, "ca"),
        lambda: certs.finish(folder),
        lambda: certs.generate(folder, force=True),
    ):
        heard.clear()
        with pytest.MonkeyPatch.context() as patch:
            Steps(seen=followed.identity).install(patch)
            change()
        followed.identity()
        assert [type(one) for one in heard] == [Taken]


@pytest.mark.parametrize("stage", ["begin", "finish"])
def test_a_replacement_that_is_killed_anywhere_locks_nobody_out(
    folder: Path, made: Path, tmp_path: Path, stage: str
) -> None:
    """Killed again at each call; the daemon runs on with what it started with, or starts with what lies there."""
    certs.renew(folder, "ca")
    begun = Path(shutil.copytree(folder, tmp_path / "begun"))
    start, work = (
        (made, lambda: certs.renew(folder, "ca")) if stage == "begin" else (begun, lambda: certs.finish(folder))
    )

    def start_anew() -> None:
        shutil.rmtree(folder)
        shutil.copytree(start, folder)

    def works() -> None:
        assert understand(folder, start)
        assert understand(folder, folder)

    assert until_done(work, start_anew, works) > 30
