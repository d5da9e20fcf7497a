"""``dataplane schema``: the JSON Schema that editors use on our own manifest kinds."""

from __future__ import annotations

import argparse
from importlib import resources

HELP = "print the JSON Schema of our own manifest kinds"


SCHEMAS = {"cluster": "k8s/cluster.schema.json", "traffic": "traffic/traffic.schema.json"}


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", nargs="?", choices=sorted(SCHEMAS), default="cluster", help="which kind of manifest (default: cluster)")
    parser.epilog = "In a YAML file, `# yaml-language-server: $schema=FILE` names the file that this output was saved to."


def run(args: argparse.Namespace) -> int:
    print(resources.files("dataplane").joinpath(SCHEMAS[args.kind]).read_text(encoding="utf-8"), end="")
    return 0
