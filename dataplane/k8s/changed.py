"""Changes of single objects of a cluster, at a cost that does not grow with the cluster.

A Service, EndpointSlice or Pod is put (a new one behind all others, a known one into its place) or deleted. The slices that follow
from selectors follow. What is put is complete: nothing is derived for it that a cluster would have to decide.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field, replace
from typing import Any

from dataplane.errors import InputError
from dataplane.k8s.derive import complete_pod
from dataplane.k8s.fields import place
from dataplane.k8s.found import objects_of
from dataplane.k8s.loader import read_objects
from dataplane.k8s.objects import EndpointSlice, IPAddress, Manifests, Pod, Service
from dataplane.k8s.positions import line_of
from dataplane.k8s.slices import derive_slices
from dataplane.k8s.yaml_source import Document

Changeable = Service | EndpointSlice | Pod
Key = tuple[type, str, str]  # what it is, its namespace and its name


@dataclass(slots=True)
class Difference:
    """What a change has come to."""

    services: dict[str, None] = field(default_factory=dict)  # NAMESPACE/NAME of those whose ports or endpoints may differ, in order
    pods: list[tuple[Pod | None, Pod | None]] = field(default_factory=list)  # before and after


class Changing:
    """The objects of a cluster, ready to change. Building it takes one look at every object."""

    def __init__(self, manifests: Manifests) -> None:
        self._nodes = {node.name: node for node in manifests.nodes}
        self.services = {service.key: service for service in manifests.services}
        self.pods = {pod.key: pod for pod in manifests.pods}
        self.slices = {(each.namespace, each.name): each for each in manifests.endpoint_slices}
        self._slices_of: dict[str, dict[tuple[str, str], None]] = {}
        self._places = {key: number for number, key in enumerate(self.pods)}
        self._next_place = len(self._places)
        self._labelled: dict[tuple[str, str, str], dict[str, None]] = {}
        self._selecting: dict[str, dict[str, None]] = {}  # services with a selector, by namespace
        self._holders: dict[type, dict[IPAddress, Service | Pod]] = {Service: {}, Pod: {}}
        for each in manifests.endpoint_slices:
            self._slices_of.setdefault(f"{each.namespace}/{each.service}", {})[each.namespace, each.name] = None
        for pod in manifests.pods:
            self._label(pod)
            self._hold(None, pod)
        for service in manifests.services:
            self._note_selector(service)
            self._hold(None, service)

    def apply(self, put: Iterable[Changeable], delete: Iterable[Changeable]) -> Difference:
        """Delete, then put, what ``check`` has let pass; of several with one name the last is put."""
        found = Difference()
        for each in delete:
            self._change(each, None, found)
        for each in {key_of(each): each for each in put}.values():
            self._change(each, each, found)
        return found

    def named(self, documents: Iterable[Mapping[str, Any]]) -> list[Changeable]:
        """The objects that have these kinds and names. Raises InputError where there is none."""
        return [self._named(data) for data in documents]

    def _named(self, data: Mapping[str, Any]) -> Changeable:
        kind, metadata = data.get("kind"), data.get("metadata")
        metadata = metadata if isinstance(metadata, Mapping) else {}
        namespace, name = str(metadata.get("namespace") or "default"), str(metadata.get("name"))
        found: Changeable | None = None
        if kind == "Service":
            found = self.services.get(f"{namespace}/{name}")
        elif kind == "Pod":
            found = self.pods.get(f"{namespace}/{name}")
        elif kind == "EndpointSlice":
            found = self.slices.get((namespace, name))
        if found is None:
            raise InputError(f"{kind} {namespace}/{name}: there is no such object to delete; only Service, EndpointSlice and Pod can go")
        return found

    def manifests(self, before: Manifests, found: Difference) -> Manifests:
        """The cluster as it is after a change."""
        pods = tuple(self.pods.values()) if found.pods else before.pods
        return replace(before, services=tuple(self.services.values()), endpoint_slices=tuple(self.slices.values()), pods=pods)

    def slices_of(self, service: str) -> list[EndpointSlice]:
        return [self.slices[key] for key in self._slices_of.get(service, ())]

    # ---- what cannot be
    def check(self, put: Iterable[Changeable], delete: Iterable[Changeable]) -> None:
        """Raises InputError for objects to delete that are not there, and for new ones that a cluster would refuse."""
        gone: set[Key] = set()
        for each in delete:
            if key_of(each) in gone or self._known(each) is None:
                raise InputError(f"{place(each.origin)}: there is no such object to delete; correct its name")
            gone.add(key_of(each))
        coming = {key_of(each): each for each in put}
        for key, each in coming.items():
            before = None if key in gone else self._known(each)
            if isinstance(each, EndpointSlice) and isinstance(before, EndpointSlice) and before.service != each.service:
                wrong = f"the slice is of service {before.service}"
                raise InputError(f"{place(each.origin)}: {wrong}; delete it and add one of another name")
            if isinstance(each, Pod) and each.node not in self._nodes:
                raise InputError(f"{place(each.origin)}: there is no node {each.node[:60]!r}; correct spec.nodeName")
        self._check_addresses(coming, gone)
        self._check_node_ports(coming, gone)

    def _known(self, named: Changeable) -> Changeable | None:
        if isinstance(named, Service):
            return self.services.get(named.key)
        return self.pods.get(named.key) if isinstance(named, Pod) else self.slices.get((named.namespace, named.name))

    def _check_addresses(self, coming: Mapping[Key, Changeable], gone: Set[Key]) -> None:
        """No two pods have one address, and no two services one cluster IP."""
        held: dict[tuple[type, IPAddress], Changeable] = {}
        for each in coming.values():
            for address in addresses_of(each):
                first = held.setdefault((type(each), address), each)
                other = self._holders[type(each)].get(address)
                if first is each and other is not None and key_of(other) not in gone and key_of(other) not in coming:
                    first = other
                if first is not each:
                    wrong = f"address {address} is taken by {first.origin}"
                    raise InputError(f"{place(each.origin)}: {wrong}; give one of the two another address")

    def _check_node_ports(self, coming: Mapping[Key, Changeable], gone: Set[Key]) -> None:
        """No two services have one node port."""
        new = [each for each in coming.values() if isinstance(each, Service)]
        if not any(port.node_port for service in new for port in service.ports):
            return
        staying = [service for service in self.services.values() if key_of(service) not in gone and key_of(service) not in coming]
        seen: dict[tuple[str, int], Service] = {}
        for service in (*staying, *new):
            for key in ((port.protocol, port.node_port) for port in service.ports if port.node_port):
                first = seen.setdefault(key, service)
                if first is not service:
                    wrong = f"nodePort {key[1]} {key[0]} is taken by {first.origin}"
                    raise InputError(f"{place(service.origin)}: {wrong}; give one of the two another nodePort")

    def _hold(self, before: Service | Pod | None, now: Service | Pod | None) -> None:
        """Note whose addresses they are."""
        for address in addresses_of(before) if before is not None else ():
            if self._holders[type(before)].get(address) is before:
                del self._holders[type(before)][address]
        if now is not None:
            self._holders[type(now)] |= dict.fromkeys(addresses_of(now), now)

    # ---- one object
    def _change(self, named: Changeable, now: Changeable | None, found: Difference) -> None:
        if isinstance(named, Service):
            self._change_service(named, now if isinstance(now, Service) else None, found)
        elif isinstance(named, EndpointSlice):
            self._change_slice(named, now if isinstance(now, EndpointSlice) else None, found)
        else:
            self._change_pod(named, now if isinstance(now, Pod) else None, found)

    def _change_service(self, named: Service, now: Service | None, found: Difference) -> None:
        key, before = named.key, self.services.get(named.key)
        found.services[key] = None
        self._hold(before, now)
        if before is not None:
            self._selecting.get(before.namespace, {}).pop(key, None)
        derived = [each for each in self.slices_of(key) if is_derived(each)]
        has_written = len(derived) < len(self.slices_of(key))
        if now is None:
            del self.services[key]
            self._replace_slices(key, derived, [])
            return
        self.services[key] = now
        self._note_selector(now)
        if now.selector and not has_written:
            self._replace_slices(key, derived, derive_slices(now, self._selected(now), self._nodes))

    def _change_slice(self, named: EndpointSlice, now: EndpointSlice | None, found: Difference) -> None:
        key, service = (named.namespace, named.name), f"{named.namespace}/{named.service}"
        found.services[service] = None
        if now is None:
            del self.slices[key]
            del self._slices_of[service][key]
            return
        derived = [each for each in self.slices_of(service) if is_derived(each)]
        self._replace_slices(service, derived, [])  # as where a slice is written from the start
        self.slices[key] = now
        self._slices_of.setdefault(service, {})[key] = None

    def _change_pod(self, named: Pod, now: Pod | None, found: Difference) -> None:
        key, before = named.key, self.pods.get(named.key)
        self._hold(before, now)
        if before is not None:
            self._unlabel(before)
        if now is None:
            del self.pods[key]
        else:
            self.pods[key] = now
            if before is None:
                self._places[key] = self._next_place
                self._next_place += 1
            self._label(now)
        found.pods.append((before, now))
        for service in self._services_of([pod for pod in (before, now) if pod is not None]):
            derived = [each for each in self.slices_of(service.key) if is_derived(each)]
            if derived or not self.slices_of(service.key):
                found.services[service.key] = None
                self._replace_slices(service.key, derived, derive_slices(service, self._selected(service), self._nodes))

    # ---- who belongs to whom
    def _label(self, pod: Pod) -> None:
        for name, value in pod.labels.items():
            self._labelled.setdefault((pod.namespace, name, value), {})[pod.key] = None

    def _unlabel(self, pod: Pod) -> None:
        for name, value in pod.labels.items():
            del self._labelled[pod.namespace, name, value][pod.key]

    def _note_selector(self, service: Service) -> None:
        if service.selector:
            self._selecting.setdefault(service.namespace, {})[service.key] = None

    def _selected(self, service: Service) -> list[Pod]:
        """In the order of the pods, as ``PodIndex.select`` has it."""
        groups = [self._labelled.get((service.namespace, name, value), {}) for name, value in service.selector.items()]
        shortest = min(groups, key=len)
        keys = [key for key in shortest if all(key in group for group in groups)]
        return [self.pods[key] for key in sorted(keys, key=self._places.__getitem__)]

    def _services_of(self, pods: list[Pod]) -> list[Service]:
        """Those that select any of the pods."""
        candidates = [self.services[key] for key in self._selecting.get(pods[0].namespace, ())]
        return [service for service in candidates if any(service.selector.items() <= pod.labels.items() for pod in pods)]

    def _replace_slices(self, service: str, before: list[EndpointSlice], now: list[EndpointSlice]) -> None:
        known = self._slices_of.setdefault(service, {})
        kept = {(each.namespace, each.name) for each in now}
        for each in before:
            if (each.namespace, each.name) not in kept:
                del self.slices[each.namespace, each.name]
                del known[each.namespace, each.name]
        for each in now:
            self.slices[each.namespace, each.name] = each
            known[each.namespace, each.name] = None


def is_derived(item: EndpointSlice) -> bool:
    """From a selector, not written."""
    return item.origin.line == 0


def key_of(item: Changeable) -> Key:
    return type(item), item.namespace, item.name


def addresses_of(item: Changeable) -> tuple[IPAddress, ...]:
    """Those that nothing else of its kind may have."""
    if isinstance(item, Service):
        return item.cluster_ips
    return item.addresses if isinstance(item, Pod) and not item.host_network and item.phase == "Running" else ()


def read_changeable(documents: Iterable[Mapping[str, Any]], manifests: Manifests, file: str) -> list[Changeable]:
    """Objects as manifests have them. Raises InputError for other kinds, and for a service or pod without an address of its own."""
    found = [Document(data, file, line_of(data, 1)) for data in documents]
    if not found:
        return []
    collected = read_objects(objects_of(found), file)
    extra = [*collected.nodes, *collected.endpoints, *collected.policies, *collected.namespaces]
    if extra or collected.extra or collected.config is not None:
        raise InputError(f"{file}: only Service, EndpointSlice and Pod can change in a running cluster; make a new one for other changes")
    for service in collected.services:
        if not service.headless and service.type != "ExternalName" and not service.cluster_ips:
            raise InputError(f"{place(service.origin)}: spec.clusterIP is missing; add it")
    for pod in collected.pods:
        if pod.phase == "Running" and not pod.addresses and not pod.host_network:
            raise InputError(f"{place(pod.origin)}: status.podIP is missing; add it")
    families = manifests.config.service_cidrs
    services = [replace(each, ip_families=each.ip_families or (f"IPv{families[0].version}",)) for each in collected.services]
    return [*services, *collected.endpoint_slices, *(complete_pod(pod, manifests) for pod in collected.pods)]
