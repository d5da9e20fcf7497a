# Test-only: TCP segments that leave by a shortcut, eight at a time and one by one. The wheel leaves this module out.

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset
from ext.devices.core cimport Ns
from ext.fast.abreast cimport lane_told, lane_translated, lane_written
from ext.fast.flows cimport Flow, FlowCache, Key, Lane, LaneWay, Program, SHORT_HEAD, Track, Tracked, flow_home, key_hash, key_seeds
from ext.fast.headers cimport sight_is_wide
from ext.fast.lane cimport way_draft, way_joins
from ext.fast.lanes cimport Eight, LaneKeys, lanes_frames, lanes_look, lanes_pass, lanes_repeat, lanes_write
from ext.fast.rows cimport eight_opens
from ext.fast.straight cimport straight_written
from ext.tables.conntrack cimport Ct
from ext.tables.ct_settings cimport CTS_ASSURED, CTS_SEEN_REPLY, CtStatus, ct_settings_init
from ext.tables.ct_tcp cimport CtTcp, ct_tcp_passes
from ext.wire.packet cimport PKT_HEADROOM

WIDE = bool(sight_is_wide())
TCP_SIZE = sizeof(CtTcp)
cdef enum:
    ROOM = 256 + 2048


cdef class Lanes:
    """Packets of a program, each of a connection of its own."""

    cdef Ns *ns
    cdef FlowCache *fc
    cdef Program g
    cdef Track track
    cdef Ct ct[8]
    cdef LaneWay way
    cdef Lane lane
    cdef Flow flow[8]
    cdef Eight *e
    cdef object memory
    cdef const uint8_t[::1] data  # of the frames that have been looked at

    def __cinit__(self, dict program, list connections, uint64_t seed):
        self.ns = <Ns *>calloc(1, sizeof(Ns))
        self.fc = <FlowCache *>calloc(1, sizeof(FlowCache))
        self.memory = bytearray(sizeof(Eight) + 64)
        if self.ns == NULL or self.fc == NULL:
            raise MemoryError
        cdef uint8_t[::1] memory = self.memory
        cdef size_t at = <size_t>&memory[0]
        self.e = <Eight *>((at + 63) & ~<size_t>63)
        self.ns.id = 0
        ct_settings_init(&self.ns.ct.set)
        key_seeds(self.fc.key_seed, seed)
        self.fc.slots = 1 << 20
        eight_opens(self.fc, self.e)
        self.program_is(program)
        for k in range(8):
            addresses, ports, tcp, status = connections[k]
            self.connection_is(k, addresses, ports, tcp, status)

    def __dealloc__(self):
        free(self.ns)
        free(self.fc)

    cdef program_is(self, dict of):
        cdef bytes head = of["head"]
        cdef const uint8_t *bytes_of = head
        cdef int i
        memset(&self.g, 0, sizeof(Program))
        memset(&self.track, 0, sizeof(Track))
        self.track.ns = self.ns
        self.track.proto = 6
        self.track.dir = of["dir"]
        self.track.status = CTS_SEEN_REPLY | CTS_ASSURED
        self.g.tracks = &self.track
        self.g.n_tracks = 1
        self.g.short.hops = of["hops"]
        self.g.short.trims = of["trims"]
        for manip in of["manips"]:
            self.g.short.manip[self.g.short.n_nats] = manip
            self.g.short.n_nats += 1
        self.g.n_nats = self.g.short.n_nats
        self.g.short.head_len = <uint8_t>len(head)
        memcpy(self.g.short.head + SHORT_HEAD - len(head), bytes_of, len(head))
        self.g.short.outer = of["outer"]
        self.g.short.pushes = of["pushes"]
        self.g.short.link_sum = of["link_sum"]
        self.g.push_sum = of["push_sum"]
        self.g.push_udp = of["push_udp"]
        self.g.push_udp_sum = of["push_udp_sum"]
        way_draft(&self.way, &self.g)
        way_joins(&self.way, 1)
        self.lane.longest = of["longest"]
        self.lane.widest = of["widest"]
        memcpy(self.lane.link, <const uint8_t *><bytes>of["link"], 12)

    cdef connection_is(self, int k, bytes addresses, tuple ports, bytes tcp, CtStatus status):
        cdef Ct *ct = &self.ct[k]
        memset(ct, 0, sizeof(Ct))
        ct.family = 4
        ct.number = 6
        memcpy(ct.address4, <const uint8_t *>addresses, 16)
        for i in range(4):
            ct.port[i // 2][i % 2] = ports[i]
        memcpy(&ct.proto.tcp, <const uint8_t *>tcp, sizeof(CtTcp))
        ct.status = status

    def looks(self, const uint8_t[::1] data, const uint64_t[::1] starts, const uint32_t[::1] lengths, const int32_t[::1] devs):
        """Lanes of plain segments; those that are too long to have been summed up; slots of their flows; keys."""
        cdef LaneKeys keys
        cdef uint32_t unsummed = 0
        self.data = data
        keys.seed = self.fc.key_seed
        keys.slots = self.fc.slots
        if lanes_frames(self.e, &data[0], &starts[0], &lengths[0], &devs[0], 14, 2000, 1 << 8) != 0xff:
            return None
        seen = lanes_look(self.e, &keys, &unsummed)
        return seen, unsummed, [self.e.home[k] for k in range(8)], [(self.e.place[k], self.e.addresses[k], self.e.ports[k]) for k in range(8)]

    def home(self, uint64_t place, uint64_t addresses, uint32_t ports):
        """The slot that the scalar code looks a flow up in."""
        cdef Key key
        key.place = place
        key.addresses = addresses
        key.ports = ports
        return flow_home(self.fc, key_hash(self.fc.key_seed, &key)) - self.fc.flow

    def together(self, list idents, list sports, int64_t now):
        """After looks(): lanes that passed, what connections are then, and what left."""
        cdef Eight *e = self.e
        cdef int k
        for k in range(8):
            self.flow[k].sport = sports[k]
            e.flow[k] = &self.flow[k]
            e.lane[k] = <const uint8_t *>&self.lane
            e.way[k] = <const uint8_t *>&self.way
            e.ct[k] = <uint8_t *>&self.ct[k]
            e.other[k] = NULL
            e.sender[k] = e.ct[k] + self.way.sender_at
            e.receiver[k] = e.ct[k] + self.way.receiver_at
            e.last[k] = <uint8_t *>&self.ct[k].proto.tcp.last_seq
            e.ident[k] = idents[k]
            e.sport[k] = sports[k]
        passed = lanes_pass(e)
        for k in range(8):
            if passed >> k & 1:
                lane_told(e, k, &self.way, now)
                lane_translated(e, k, &self.way)
        lanes_write(e)
        left = []
        for k in range(8):
            if passed >> k & 1:
                lane_written(e, k, &self.way)
                left.append((<const uint8_t *>(e.to[k] - self.g.short.head_len))[:self.g.short.head_len + e.length_out[k]])
            else:
                left.append(None)
        return passed, [(<const uint8_t *>&self.ct[k])[:sizeof(Ct)] for k in range(8)], left

    def alone(self, int k, const uint8_t[::1] frame, uint16_t ident, uint16_t sport, int64_t now):
        """The same of one packet: does its connection pass it, what is that then, and what leaves?"""
        cdef uint8_t room[ROOM]
        cdef const uint8_t *ip = &frame[14]
        cdef Ct *ct = &self.ct[k]
        cdef Tracked at
        cdef int64_t timeout
        cdef uint32_t n = <uint32_t>frame.shape[0] - 14, total = ip[2] << 8 | ip[3]
        if not ct_tcp_passes(&ct.proto.tcp, self.track.dir, ip + 20, <int>total - 20, &self.ns.ct.set, &ct.status, &timeout):
            return None
        ct.expires = now + timeout
        at.ct[0] = ct
        straight_written(sport, &self.g, &self.track, &at, ident, ip, n, room + PKT_HEADROOM)
        n = total if self.g.short.trims else n
        return (<const uint8_t *>ct)[:sizeof(Ct)], (<const uint8_t *>(room + PKT_HEADROOM - self.g.short.head_len))[:self.g.short.head_len + n]

    @staticmethod
    def repeated(list words):
        cdef uint32_t word[8]
        for k in range(8):
            word[k] = words[k]
        return lanes_repeat(word)
