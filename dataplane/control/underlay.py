"""The flat underlay: one switch that every node and host hangs on, and their ``eth0``.

The switch is a bridge in a namespace of its own, without addresses and without learning; it knows the MACs
of nodes and hosts, floods the rest, and is never captured. Each cable carries half of the underlay's
one-way latency in each direction, so that any two machines are one latency apart (an odd nanosecond is lost).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import ip_interface, ip_network

from dataplane.control.mac import mac_of
from dataplane.control.topology import Topology
from dataplane.control.wiring import End, IPInterface, Wiring, refused
from dataplane.errors import InputError
from dataplane.k8s.objects import Host, InterfaceHint, IPAddress, IPNetwork, Node, Origin

SWITCH = "underlay"
BRIDGE = "br0"
UPLINK = "eth0"
SWITCH_SYSCTLS = {
    "net.bridge.bridge-nf-call-iptables": 0,
    "net.bridge.bridge-nf-call-ip6tables": 0,
    "net.ipv6.conf.all.disable_ipv6": 1,
}
NO_HINT = InterfaceHint()


def build_underlay(wiring: Wiring) -> None:
    """Make the switch, then every node and host with its ``eth0``, addresses and (nodes) default routes."""
    bridge = add_switch(wiring)
    ports = {node.name: attach_node(wiring, bridge, node) for node in wiring.manifests.nodes}
    attach_hosts(wiring, bridge, ports)


def add_switch(wiring: Wiring) -> int:
    """Returns its bridge."""
    config = wiring.manifests.config
    switch = wiring.namespace(SWITCH)
    wiring.topology.switch = switch
    bridge = wiring.device(switch, BRIDGE, "bridge", mac=mac_of(None, "", SWITCH, BRIDGE), mtu=config.underlay.mtu, origin=config.origin)
    wiring.engine.set_device(bridge, capture=False)
    for name, value in SWITCH_SYSCTLS.items():
        wiring.engine.set_sysctl(switch, name, value)
    return bridge


def attach_hosts(wiring: Wiring, bridge: int, ports: dict[str, int]) -> None:
    """``ports``: of the nodes, by name; those of hosts are added."""
    hosts = wiring.manifests.config.underlay.hosts
    for host in hosts:
        if host.behind is None:
            ports[host.name] = attach_host(wiring, bridge, host)
    for host in hosts:
        if host.behind is not None:
            place_behind(wiring, host, host.behind, ports)


def attach_node(wiring: Wiring, bridge: int, node: Node) -> int:
    """Returns the switch port. The node forwards, as its kubelet and CNI require."""
    config = wiring.manifests.config
    hint, mac = hint_of(node, UPLINK), uplink_mac(node)
    namespace = wiring.namespace(free_name(wiring.topology, node.name, f"node/{node.name}"))
    eth0, port = plug(wiring, bridge, End(namespace, UPLINK, mac, uplink_mtu(wiring, node)), node.origin)
    for interface in hinted_interfaces(hint, node.origin) or on_subnets(node.addresses, config.underlay.cidrs, node.origin):
        wiring.address(eth0, interface, mac, node.origin)
    wiring.machine(f"node/{node.name}", eth0, mac, node.addresses, node.origin)
    families = {address.version for address in node.addresses}
    for gateway in config.underlay.default_gateways:
        if gateway.version in families:
            wiring.route(namespace, default_route(gateway.version), config.origin, via=gateway, device=eth0)
    return port


def attach_host(wiring: Wiring, bridge: int, host: Host) -> int:
    """Returns the switch port."""
    mac = host_mac(host)
    namespace = wiring.namespace(free_name(wiring.topology, host.name, f"host/{host.name}"))
    eth0, port = plug(wiring, bridge, End(namespace, UPLINK, mac, wiring.manifests.config.underlay.mtu), host.origin)
    for interface in on_subnets(host.addresses, wiring.manifests.config.underlay.cidrs, host.origin):
        wiring.address(eth0, interface, mac, host.origin)
    wiring.machine(f"host/{host.name}", eth0, mac, host.addresses, host.origin)
    return port


def place_behind(wiring: Wiring, host: Host, behind: str, ports: Mapping[str, int]) -> None:
    """A host behind another is a MAC on that one's port; frames to it are seen there and nobody answers."""
    if behind not in ports:
        raise InputError(f"{host.origin}: behind: {behind!r} is no node and no host with a port of its own: name one of {', '.join(ports)}")
    wiring.fdb(ports[behind], host_mac(host), host.origin)
    for address in host.addresses:
        wiring.topology.macs[address.packed] = host_mac(host)


def plug(wiring: Wiring, bridge: int, end: End, origin: Origin) -> tuple[int, int]:
    """A cable from ``end`` to a new port of the switch, which knows the MAC; returns both devices."""
    other = switch_port(wiring, end.namespace)
    described = wiring.topology.described_device(other.namespace, other.device)
    if described >= 0:  # the port stands since the machine was described
        device = wiring.device(end.namespace, end.device, "veth", mac=end.mac, mtu=end.mtu, origin=origin)
        wiring.engine.connect(device, described, latency=port_latency(wiring))
        return device, described
    device, port = wiring.veth_pair(end, other, origin, latency_ns=port_latency(wiring))
    join_switch(wiring, bridge, port, end.mac, origin)
    return device, port


def switch_port(wiring: Wiring, namespace: int) -> End:
    """The switch's end of the cable of a machine, whose name may be longer than an interface's."""
    name = f"port{namespace}"
    return End(wiring.topology.switch, name, mac_of(None, "", SWITCH, name), wiring.manifests.config.underlay.mtu)


def port_latency(wiring: Wiring) -> int:
    """Nanoseconds that each end of a cable takes."""
    return wiring.manifests.config.underlay.latency_ns // 2


def join_switch(wiring: Wiring, bridge: int, port: int, mac: bytes, origin: Origin) -> None:
    """``mac``: of the machine at the other end."""
    filters = wiring.manifests.config.faults.too_big_filtered
    wiring.engine.set_device(port, master=bridge, learning=False, capture=False, filters_too_big=filters, wire=True)
    wiring.fdb(port, mac, origin)


def hint_of(node: Node, device: str) -> InterfaceHint:
    """What the node's annotation says of a device; nothing, if it does not name it."""
    return node.interfaces.get(device, NO_HINT)


def uplink_mac(node: Node) -> bytes:
    return mac_of(hint_of(node, UPLINK).mac, node.origin, UPLINK, node.name)


def uplink_mtu(wiring: Wiring, node: Node) -> int:
    return hint_of(node, UPLINK).mtu or wiring.manifests.config.underlay.mtu


def host_mac(host: Host) -> bytes:
    return mac_of(host.mac, host.origin, "host", host.name)


def free_name(topology: Topology, name: str, ref: str) -> str:
    """The short name, unless another machine has it already."""
    described = topology.machine(ref)
    if described is not None:
        return described.name
    return ref if topology.has_namespace(name) else name


def hinted_interfaces(hint: InterfaceHint, origin: Origin) -> list[IPInterface]:
    with refused(origin, "dataplane/interfaces"):
        return [ip_interface(text) for text in hint.addresses]


def on_subnets(addresses: tuple[IPAddress, ...], subnets: Sequence[IPNetwork], origin: Origin) -> list[IPInterface]:
    return [ip_interface((address.packed, subnet_of(address, subnets, origin).prefixlen)) for address in addresses]


def subnet_of(address: IPAddress, subnets: Sequence[IPNetwork], origin: Origin) -> IPNetwork:
    for subnet in subnets:
        if subnet.version == address.version and address in subnet:
            return subnet
    known = ", ".join(map(str, subnets))
    raise InputError(f"{origin}: {address} is in none of the underlay's subnets ({known}): correct it, or add its subnet to underlay.cidrs")


def default_route(version: int) -> IPNetwork:
    return ip_network("0.0.0.0/0" if version == 4 else "::/0")
