"""Names in kube-proxy's nftables mode.

Source: kube-proxy v1.30, pkg/proxy/nftables/proxier.go (servicePortChainNameBase, servicePortEndpointChainNamePrefix).
"""

from __future__ import annotations

import base64
import hashlib

_LONGEST_BASE = 240  # NFT_NAME_MAXLEN 256 (include/uapi/linux/netfilter/nf_tables.h) less 16 for the prefix
_ELLIPSIS = "..."


def chain_name(prefix: str, service_port: str, protocol: str, endpoint: str = "") -> str:
    """Name of a chain of service port ``namespace/service:port``, or of one of its endpoints (``ip:port``, ``[ip]:port``).

    ``prefix`` is service, external, firewall, endpoint or another word of that kind; ``protocol`` is lower case. The
    characters of an address that names of nftables may not have are written otherwise: ``/`` for the port, dots for colons.
    """
    service, _, port = service_port.partition(":")
    text = f"{service}/{protocol}/{port}"
    if endpoint:
        address, _, endpoint_port = endpoint.rpartition(":")
        text += f"__{address.strip('[]').replace(':', '.')}/{endpoint_port}"
    digest = base64.b32encode(hashlib.sha256(text.encode()).digest()).decode()
    base = f"{digest[:8]}-{text}"
    if len(base) > _LONGEST_BASE:
        base = base[: _LONGEST_BASE - len(_ELLIPSIS)] + _ELLIPSIS
    return f"{prefix}-{base}"
