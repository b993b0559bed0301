"""``certs``: the certificate files of mutual TLS: what they say, what is wrong with them, and replacing them.

Of files alone: neither a gateway nor the log is needed.
"""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer

from docker import cert_checks, cert_report, certs
from docker.authority import DAYS, MOST_DAYS
from docker.cert_checks import Check, State
from docker.cert_report import Row
from docker.cert_trial import try_out
from docker.errors import BadCertificateFiles, DaemonRefusedUs, DaemonUntrusted, DockerError
from docker.settings import DockerSettings
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
        printing.line(f"There are no certificates in {settings().docker.docker_cert_path}.")
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
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Replace one certificate, where the CA's key is kept, and say which file goes to which machine.

    A CA is replaced in two stages, and nobody is locked out meanwhile: rotate ca, then rotate ca --finish once the
    daemon has been restarted. What the former CA signed is refused after the second. A client's new certificate is
    shown to the daemon of DOCKER_HOST first, when one is given. Exit code 1: nothing was replaced, and why.
    """
    if (finish and role != "ca") or (host and (role == "client" or finish)):
        raise Failure(
            Exit.USAGE, "--finish goes with ca; --host goes with server, and with ca when its rotation begins."
        )
    chosen = settings().docker
    folder, trial = Path(chosen.docker_cert_path), _trial(chosen)
    try:
        if finish:
            done = certs.finish(folder, days=days, trial=trial, dry_run=dry_run)
        else:
            done = certs.renew(folder, role, hosts=host or (), days=days, trial=trial, dry_run=dry_run)
    except BadCertificateFiles as error:
        raise Failure(Exit.NEGATIVE, str(error)) from error
    if json:
        printing.document(done)
    else:
        printing.line("\n".join(certs.told(done)))


def _trial(chosen: DockerSettings) -> certs.Trial | None:
    """Ask the daemon what it thinks of a client's files; None when none is named here."""
    if not (chosen.docker_host or chosen.docker_host_ip):
        return None

    def trial(authority: bytes, certificate: bytes, key: bytes) -> None:
        try:
            asyncio.run(try_out(chosen, authority, certificate, key))
        except (DaemonRefusedUs, DaemonUntrusted) as error:
            raise BadCertificateFiles(
                f"Nothing was replaced, since the daemon does not go with the new files: {error} "
                "Give it what was handed out for it, and restart dockerd."
            ) from error
        except DockerError as error:
            printing.note(f"The daemon could not be asked whether it accepts the new files: {error}")

    return trial


def _print_rows(found: Sequence[Row]) -> None:
    printing.table(
        ["for", "subject", "days left", "not after", "not before", "usage", "key", "hosts", "mode", "file", "sha256"],
        [
            [
                row.role,
                row.problem or row.subject,
                row.days_left,
                printing.when(row.not_after),
                printing.when(row.not_before),
                row.usage,
                row.key,
                ", ".join(row.hosts),
                row.mode,
                row.file,
                row.sha256,
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
