"""What HAProxy says of a haproxy.cfg that nobody else has seen, in the words of door.toml."""

from __future__ import annotations

import re
from pathlib import Path

from scoremux_server.front_door.config import FrontDoorConfig

_LEVEL = re.compile(r"^\[(\w+)\][^:]*: *")
_PLACE = re.compile(r"^(config : )?(parsing )?(\[\S+:\d+\] : )?")
_BIND = re.compile(r"^'bind[^']*'( in section '\w+')? : ")
_BINDING = re.compile(r"^Binding \[\S+\] for frontend (door|metrics): (protocol \w+: )?")
_SERVER = re.compile(r"^'server (grpc|http|ready|own)/([\w-]+)' : ")
_EMPTY = ("Error(s) found in configuration file", "Fatal errors found in configuration")


def sentences(output: str) -> list[str]:
    """Return HAProxy's errors, one each, without their place in a file."""
    found: list[str] = []
    wanted = False
    for line in output.splitlines():
        level = _LEVEL.match(line)
        if level:
            said = _PLACE.sub("", line[level.end() :]).strip()
            wanted = level[1] == "ALERT" and not said.startswith(_EMPTY)
            found += [said] if wanted else []
        elif wanted and line.strip():
            found[-1] = f"{found[-1]} {line.strip()}"
    return found


def translated(said: list[str], file: Path, config: FrontDoorConfig, folder: Path) -> str:
    """Return errors about the files in `folder` as one sentence about the keys of `file`, each key once."""
    by_key: dict[str, str] = {}
    for sentence in said:
        key, rest = _by_key(sentence)
        by_key.setdefault(key, f"{file}: {key}{_real_paths(rest, config, folder)}")
    return "; ".join(by_key.values())


def _by_key(sentence: str) -> tuple[str, str]:
    if server := _SERVER.match(sentence):
        return f"backends.{server[2]}: {server[1]}: ", sentence[server.end() :]
    if bound := _BINDING.match(sentence):
        return "address: " if bound[1] == "door" else "metrics_port: ", sentence[bound.end() :]
    rest = _BIND.sub("", sentence)
    for name, key in (("client-ca.pem", "client_ca"), ("door.pem.key", "key"), ("door.pem", "certificate")):
        if name in rest:
            return f"{key}: ", rest
    return "address: " if rest.startswith("invalid address") else "", rest


def _real_paths(sentence: str, config: FrontDoorConfig, folder: Path) -> str:
    # HAProxy looks for a key beside the certificate, where there is none in the certificate itself.
    key = config.key or config.certificate
    for name, path in (("client-ca.pem", config.client_ca), ("door.pem.key", key), ("door.pem", config.certificate)):
        sentence = sentence.replace(f"{folder}/{name}", str(path))
    return sentence.replace(f"{folder}/", "")
