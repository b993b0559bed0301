"""``certs``: the certificate files of mutual TLS: what they say, what is wrong with them, and replacing them.

Of files alone: neither a gateway nor the log is needed.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer

from docker import cert_checks, cert_report, certs
from docker.authority import DAYS, MOST_DAYS
from docker.cert_checks import Check, State
from docker.cert_report import Row
from docker.cert_trial import Trial, proof_of, trial_of
from docker.errors import BadCertificateFiles
from docker.settings import DockerSettings, certificate_paths
from gateway.cli import printing
from gateway.cli.direct import settings
from gateway.cli.exits import Exit, Failure
from gateway.cli.options import DryRun, Json, family

app = family("The certificates of mutual TLS: show, check, replace.")
_EXIT: Final = {State.PASS: Exit.OK, State.WARN: Exit.OK, State.FAIL: Exit.NEGATIVE}


@app.callback()
def family_of_commands() -> None:
    """The certificate files of mutual TLS, in DOCKER_CERT_PATH; needs neither a gateway nor the log."""


@app.command()
def show(json: Json = False) -> None:
    """What each certificate says: a row for each CA, the daemon's and the client's. Exit code 1: there is none."""
    found = cert_report.rows(cert_report.find(settings().docker), datetime.now(UTC))
    if json:
        printing.document(found)
    elif found:
        _print_rows(found)
    else:
        printing.line(f"There are no certificates in {Path(settings().docker.docker_cert_path)}.")
    raise typer.Exit(Exit.OK if found else Exit.NEGATIVE)


@app.command()
def check(json: Json = False) -> None:
    """What is right and wrong with the files that are here: pass, warn or fail, a row each, and what to do.

    Exit code 0: nothing fails. 1: a row fails.
    """
    chosen = settings().docker
    found = cert_checks.check(cert_report.find(chosen), chosen, datetime.now(UTC))
    state = cert_checks.worst(found)
    if json:
        printing.document({"state": state, "checks": found})
    else:
        _print_checks(found)
    raise typer.Exit(_EXIT[state])


@app.command()
def rotate(
    role: Annotated[certs.Role, typer.Argument(help="Whose certificate is replaced.")],
    finish: Annotated[
        bool, typer.Option("--finish", help="With ca: the daemon runs with the new files; trust the new CA alone.")
    ] = False,
    days: Annotated[
        int, typer.Option(min=1, max=MOST_DAYS, help="How long it holds; never longer than its CA.")
    ] = DAYS,
    host: Annotated[
        list[str] | None, typer.Option(help="A name or address of the daemon, once each; else those it has now.")
    ] = None,
    unasked: Annotated[
        bool, typer.Option("--unasked", help="With --finish: do not ask the daemon; you have seen that it runs so.")
    ] = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Replace one certificate, where the CA's key is kept, and say which file goes to which machine.

    A CA is replaced in two stages, and nobody is locked out meanwhile: rotate ca, then rotate ca --finish once the
    daemon has been restarted. What the former CA signed is refused after the second. A client's new certificate is
    shown to the daemon of DOCKER_HOST first, when one is given; --finish does nothing without its consent. Exit code
    1: nothing was replaced, or not to the end, and why.
    """
    if (finish and role != "ca") or (host and (role == "client" or finish)) or (unasked and not finish):
        raise Failure(
            Exit.USAGE,
            "--finish goes with ca, --unasked with it; --host goes with server, and with ca when its rotation begins.",
        )
    chosen = settings().docker
    folder = Path(chosen.docker_cert_path)
    _refuse_others(chosen, folder, role)
    try:
        if finish:
            proof = None if unasked else proof_of(chosen)
            done = certs.finish(folder, days=days, trial=proof, dry_run=dry_run)
        else:
            trial: Trial | None = trial_of(chosen, printing.note)
            done = certs.renew(folder, role, hosts=host or (), days=days, trial=trial, dry_run=dry_run)
    except BadCertificateFiles as error:
        raise Failure(Exit.NEGATIVE, str(error)) from error
    if json:
        printing.document(done)
    else:
        printing.line("\n".join(certs.told(done)))


def _refuse_others(chosen: DockerSettings, folder: Path, role: certs.Role) -> None:
    """A gateway with these settings would go on using files that nobody replaces."""
    if role == "server":
        return
    own = certificate_paths(DockerSettings(docker_cert_path=str(folder)))
    names = ("DOCKER_CA_CERT", "DOCKER_CLIENT_CERT", "DOCKER_CLIENT_KEY")
    for name, used, written in zip(names, certificate_paths(chosen), own, strict=True):
        if used.resolve() != written.resolve():
            raise Failure(
                Exit.USAGE,
                f"{name} names {used}, and {written} is what would be replaced: set DOCKER_CERT_PATH to the folder "
                f"of the CA, and leave {name} empty here.",
            )


def _print_rows(found: Sequence[Row]) -> None:
    printing.table(
        # What is seldom asked, its begin and its fingerprint, is in --json: lines that wrap are read by nobody.
        ["for", "days left", "not after", "usage", "key", "mode", "hosts", "file", "subject"],
        [
            [
                row.role,
                row.days_left,
                printing.when(row.not_after),
                row.usage,
                row.key,
                row.mode,
                ", ".join(row.hosts),
                row.file,
                row.problem or row.subject,
            ]
            for row in found
        ],
    )


def _print_checks(found: Sequence[Check]) -> None:
    printing.table(
        ["check", "of", "state", "what"], [[one.check, one.role, one.state.value, one.sentence] for one in found]
    )
    for one in found:
        if one.todo:
            printing.line(f"{one.check}, {one.role}: {printing.shown(one.todo)}")
