"""The commands of a serving machine: `scoremux serve`, `tokens`, `front-door` and `files`."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer
from typer import Argument, Option

from scoremux_engine.commands.options import OtherStoreOption
from scoremux_engine.commands.printing import show_table
from scoremux_files.errors import writing
from scoremux_server.front_door.access_tokens import AccessTokenFile

tokens = typer.Typer(
    no_args_is_help=True,
    help="Bearer tokens of the front door; their file holds digests only.",
    epilog="Example: scoremux tokens add district-7 --tokens tokens.json --tasks 'bio-*'",
)

TokensOption = Annotated[Path, Option("--tokens", help="The tokens' file.")]
TokenName = Annotated[str, Argument(help="Whose token it is; appears in the door's log.")]


@tokens.command()
def add(
    name: TokenName,
    file: TokensOption,
    tasks: Annotated[list[str], Option(help="Tasks it may score, with * and ? as in a shell; repeatable.")],
    rate: Annotated[int, Option(help="Requests a second, averaged over ten seconds; 0: no limit.")] = 0,
    weight: Annotated[
        int, Option(min=1, max=100, help="Part of the work that it gets beside other tokens' weights.")
    ] = 1,
    days: Annotated[int, Option(min=1, max=3650, help="Days until it expires.")] = 365,
    namespace: Annotated[
        str | None,
        Option(help="Whose rows are its own in `scoremux api`: that of the token it replaces (default: NAME)."),
    ] = None,
) -> None:
    """Make a token and print it. It cannot be shown again.

    Example: scoremux tokens add grader --tokens door/tokens.json --tasks 'en-*' --tasks de-1 --days 180
    """
    print(AccessTokenFile(file).add(name, tasks, rate, days, weight=weight, namespace=namespace))
    print(f"{name}: store the token now, it is stored nowhere; it expires in {days} days", file=sys.stderr)


@tokens.command()
def revoke(name: TokenName, file: TokensOption) -> None:
    """Revoke a token; a running front door refuses it after its reload.

    Example: scoremux tokens revoke district-7 --tokens tokens.json
    """
    AccessTokenFile(file).revoke(name)
    print(f"revoked {name}", file=sys.stderr)


@tokens.command("list")
def list_tokens(file: TokensOption) -> None:
    """Show who has a token, and for which tasks.

    Example: scoremux tokens list --tokens tokens.json
    """
    stored = AccessTokenFile(file).read()
    rows = [
        (
            token.name if token.namespace is None else f"{token.name} ({token.namespace})",
            " ".join(token.tasks),
            str(token.rate or "no limit"),
            str(token.weight),
            f"{token.created:%Y-%m-%d}",
            f"{token.ends:%Y-%m-%d}",
        )
        for token in stored
    ]
    heads = ("name (namespace)", "tasks", "requests/s", "weight", "created", "expires")
    show_table(heads, rows, f"{len(stored)} tokens", fold=("tasks",))


_FIRST_START, _PROFILE = "First start", "Profile"
_ADAPTERS = Option(
    help="PEFT adapters, or folders of them: first export the backbone if REPOSITORY has none, and publish the "
    "adapters that are new.",
    metavar="DIR…",
    rich_help_panel=_FIRST_START,
)
_BACKBONE = Option(
    help="With --adapters: folder or hub id with the weights of their base model (default: what they name).",
    metavar="MODEL",
    rich_help_panel=_FIRST_START,
)


def serve(
    repository: Annotated[Path, Option(help="Repository with an exported backbone, or with --adapters a new folder.")],
    adapters: Annotated[list[Path] | None, _ADAPTERS] = None,
    backbone: Annotated[str | None, _BACKBONE] = None,
    store: OtherStoreOption = None,
    profile: Annotated[
        str | None,
        Option(
            help="cpu, cpu-reference, gpu, gpu-onnx, gpu-tensorrt, or FILE.toml "
            "(default: REPOSITORY/profile.toml if it exists, else cpu).",
            rich_help_panel=_PROFILE,
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        Option("--set", help="key=value: change one key of the profile; repeatable.", rich_help_panel=_PROFILE),
    ] = None,
    log: Annotated[
        Path | None,
        Option(help="Append Triton's log here (default: REPOSITORY/logs/triton.log); /dev/stderr is possible."),
    ] = None,
) -> None:
    """Serve a repository until SIGINT or SIGTERM; rows in flight then finish.

    Example: scoremux serve --repository repo --adapters adapters/* --profile cpu
    """
    from scoremux_server.errors import SetupError
    from scoremux_server.profile import Profile, default_profile
    from scoremux_server.serve import make_server, report, run
    from scoremux_server.triton.adapter_export import publish_adapters

    if backbone and not adapters:
        raise SetupError("--backbone describes --adapters: give both, or neither")
    name = profile or default_profile(repository)
    chosen = Profile.read(name, settings or [])
    server = make_server(repository, chosen, store, log)
    if adapters:
        publish_adapters(adapters, repository, store or repository / "store", backbone, report)
    report(f"profile  {name}")
    run(server)


def front_door(
    file: Annotated[Path, Argument(help="The door's configuration, FILE.toml.")],
    folder: Annotated[
        Path | None,
        Option(help="Where HAProxy's files go (default: $RUNTIME_DIRECTORY, or a folder for FILE in /tmp)."),
    ] = None,
    reload: Annotated[
        bool, Option("--reload", help="Have the HAProxy that runs load tokens, certificates and FILE as they are now.")
    ] = False,
) -> None:
    """Run HAProxy with TLS and tokens before the Tritons of FILE: write its files, check them, and become HAProxy.

    After a change of tokens, certificates or FILE, run it with --reload; a path unit of systemd does that by itself.
    SIGUSR1 lets requests in flight finish; SIGTERM and Ctrl-C end them. It ends when HAProxy does: have systemd or
    Kubernetes restart it.

    Example: scoremux front-door door.toml
    """
    from scoremux_server.front_door import door

    folder = folder or door.folder_of(file)
    if reload:
        door.reload(file, folder)
    else:
        door.run(file, folder)


_PROGRAM = "/opt/scoremux/bin/scoremux"
"""The program in the units of systemd."""


def files(
    kind: Annotated[Literal["systemd", "monitoring", "policy"], Argument(help="Which files.")],
    folder: Annotated[Path, Argument(help="Where they go; it is made if it is missing. No file there is replaced.")],
) -> None:
    """Write files to adapt: units of systemd, rules and a dashboard for Prometheus and Grafana, or a policy.

    Example: scoremux files systemd /etc/systemd/system
    """
    from scoremux_server.errors import SetupError
    from scoremux_server.profile import configuration

    source = configuration("policy.toml" if kind == "policy" else kind)
    paths = sorted(path for path in source.rglob("*") if path.is_file()) or [source]
    root = source if source.is_dir() else source.parent
    targets = [folder / path.relative_to(root) for path in paths]
    if taken := next((target for target in targets if target.exists()), None):
        raise SetupError(f"{taken} exists: move it away, or give another folder")
    for path, target in zip(paths, targets, strict=True):
        text = path.read_text(encoding="utf-8").replace(_PROGRAM, str(Path(sys.prefix) / "bin/scoremux"))
        with writing(target, SetupError):
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
        print(target)
