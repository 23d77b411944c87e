"""``python -m volumedriver [LOCATION]``: lists the volumes of the cluster that a node belongs to.

LOCATION is the URL of the node's documents or its data directory; without it ``OVS_DATA_DIR``, else the directory
that ``ovs up`` uses by itself.
"""

import argparse
import json
import os
import ssl
import sys
from typing import Any, Dict, List, Optional

from volumedriver.storagerouter import errors
from volumedriver.storagerouter.local import LocalStorageRouterClient
from volumedriver.storagerouter.volume_info import VolumeInfo

#: Exit codes of ``ovs``.
DONE, FAILED, NOT_REACHABLE = 0, 1, 6


def default_location() -> str:
    """The data directory that ``ovs up`` uses when it is given none."""
    return os.environ.get("OVS_DATA_DIR") or os.path.join(os.path.expanduser("~"), ".local/state/ovs")


def described(info: VolumeInfo) -> Dict[str, Any]:
    """What is shown of a volume."""
    return {
        "volume_id": info.volume_id,
        "size": info.volume_size,
        "stored": info.stored,
        "type": str(info.object_type),
        "node": info.vrouter_id,
        "state": "halted" if info.halted else "running",
    }


def table(rows: List[Dict[str, Any]]) -> str:
    """Rows below their heads, in columns."""
    heads = ["volume_id", "size", "stored", "type", "node", "state"]
    cells = [heads] + [[str(row[head]) for head in heads] for row in rows]
    widths = [max(len(line[column]) for line in cells) for column in range(len(heads))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths)).rstrip() for line in cells)


def main(arguments: Optional[List[str]] = None) -> int:
    """Prints the volumes; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m volumedriver", description="List the volumes of a cluster.")
    parser.add_argument(
        "location", nargs="?", help="etcd://HOST:PORT/ovs/vpools/GUID/hosts/ID/config, or a data directory"
    )
    parser.add_argument("--node", help="only volumes that run on this node (its vrouter_id)")
    parser.add_argument("--json", action="store_true", help="print a JSON array")
    parser.add_argument("--timeout", type=int, default=10, metavar="SECONDS", help="for each call (default 10)")
    parser.add_argument(
        "--token",
        default=os.environ.get("OVS_TOKEN"),
        help="what the node wants to see, if it does (default $OVS_TOKEN)",
    )
    parser.add_argument(
        "--cacert",
        metavar="FILE",
        help="certificate of the authority that signed the node's, in PEM (default: those of the system)",
    )
    given = parser.parse_args(arguments)
    if given.timeout < 1:
        parser.error("--timeout must be at least 1")
    try:
        tls = None if given.cacert is None else ssl.create_default_context(cafile=given.cacert)
    except OSError as error:
        parser.error(f"--cacert {given.cacert}: {error.strerror or error}")
    try:
        location = given.location or default_location()
        client = LocalStorageRouterClient(location, given.timeout, token=given.token, tls=tls)
        rows = [described(info) for info in client.volumes(given.node)]
    except (errors.ClusterNotReachableException, errors.NodeNotReachableException) as error:
        print(f"volumedriver: {error}", file=sys.stderr)
        return NOT_REACHABLE
    except (RuntimeError, errors.MaxRedirectsExceededException) as error:
        print(f"volumedriver: {error}", file=sys.stderr)
        return FAILED
    print(json.dumps(rows, indent=2) if given.json else table(rows))
    return DONE


if __name__ == "__main__":
    sys.exit(main())
