# Test-only: TCP segments that leave by a shortcut, eight at a time and one by one. The wheel leaves this module out.

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset
from ext.devices.core cimport Core, Dev, Ns
from ext.fast.abreast cimport Row, lane_flow, lane_stands, lane_told
from ext.fast.flows cimport (Flow, FlowCache, HOW_TRANSMIT, HOW_TUNNELLED, Key, Lane, LaneWay, Op, PLACE_TOS, Program, SHORT_HEAD, Track, Tracked,
                             flow_home, key_hash, key_seeds)
from ext.fast.headers cimport sight_is_wide
from ext.fast.key cimport ETH, tunnel_plain
from ext.fast.lane cimport way_draft, way_joins
from ext.fast.lane_flows cimport lanes_find, lanes_found
from ext.fast.lane_windows cimport lanes_follow, lanes_known, lanes_pass
from ext.fast.lane_write cimport LaneReply, lanes_tell, lanes_write, lanes_write_told
from ext.fast.lanes cimport Eight, LaneKeys, lanes_frames, lanes_look, lanes_repeat
from ext.fast.outer cimport lanes_tunnelled
from ext.fast.pair_board cimport LaneSlip, slip_of, slip_told
from ext.fast.rows cimport eight_opens
from ext.fast.straight cimport straight_written
from ext.tables.conntrack cimport Ct
from ext.tables.ct_settings cimport CTS_ASSURED, CTS_SEEN_REPLY, CtStatus, ct_settings_init
from ext.tables.ct_tcp cimport CtTcp, ct_tcp_passes
from ext.tables.memory cimport memory_lines
from ext.wire.hash cimport mix64
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
    cdef Track track[2]
    cdef Op pop
    cdef object popped
    cdef Ct ct[8]
    cdef LaneWay way
    cdef Lane lane
    cdef Row *row
    cdef Core *c
    cdef Eight *e
    cdef object memory
    cdef const uint8_t[::1] data  # of the frames that have been looked at

    def __cinit__(self, dict program, list connections, uint64_t seed):
        self.ns = <Ns *>calloc(1, sizeof(Ns))
        self.fc = <FlowCache *>calloc(1, sizeof(FlowCache))
        self.memory = bytearray(sizeof(Eight) + 64)
        self.c = <Core *>calloc(1, sizeof(Core))
        self.row = <Row *>memory_lines(sizeof(Row))
        if self.ns == NULL or self.fc == NULL or self.c == NULL or self.row == NULL:
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
        free(self.c)
        free(self.row)

    cdef program_is(self, dict of):
        cdef bytes head = of["head"]
        cdef const uint8_t *bytes_of = head
        cdef int i
        memset(&self.g, 0, sizeof(Program))
        memset(self.track, 0, sizeof(self.track))
        for i in range(2):
            self.track[i].ns = self.ns
            self.track[i].proto = 6
            self.track[i].dir = of["dir"]
            self.track[i].status = CTS_SEEN_REPLY | CTS_ASSURED
        self.g.tracks = self.track
        self.g.tcp_track = of.get("second", 0)
        self.g.n_tracks = 1 + self.g.tcp_track
        self.popped = of.get("pop", b"")
        if self.popped:
            self.g.pop = 1
            self.g.ops = &self.pop
            self.pop.n = <uint16_t>len(self.popped)
            self.pop.at = 0
            self.g.bytes = <uint8_t *><const uint8_t *><bytes>self.popped
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

    def looks(self, const uint8_t[::1] data, const uint64_t[::1] starts, const uint32_t[::1] lengths, const int32_t[::1] devs,
              uint32_t at=ETH):
        """Lanes of plain segments; those that are too long to have been summed up; slots of their flows; keys."""
        cdef LaneKeys keys
        cdef uint32_t unsummed = 0
        self.data = data
        keys.seed = self.fc.key_seed
        keys.flow = self.fc.flow
        keys.slots = self.fc.slots
        how = HOW_TRANSMIT | (HOW_TUNNELLED if at != ETH else 0)
        if lanes_frames(self.e, &data[0], &starts[0], &lengths[0], &devs[0], at, 2000, <uint32_t>(how >> PLACE_TOS)) != 0xff:
            return None
        seen = lanes_look(self.e, &keys, &unsummed)
        homes = [<const Flow *>self.e.slot[k] - self.fc.flow for k in range(8)]
        return seen, unsummed, homes, [self.key(k) for k in range(8)]

    cdef tuple key(self, int k):
        cdef const Eight *e = self.e
        return <uint64_t>e.high[k] << 32 | e.low[k], <uint64_t>e.dst[k] << 32 | e.src[k], e.ports[k]

    def home(self, uint64_t place, uint64_t addresses, uint32_t ports):
        """The slot that the scalar code looks a flow up in."""
        cdef Key key
        key.place = place
        key.addresses = addresses
        key.ports = ports
        return flow_home(self.fc, key_hash(self.fc.key_seed, &key)) - self.fc.flow

    def comes_in(self, uint16_t port, int at, list spaces):
        """After looks(): lanes whose tunnel over UDP is known to be sound; and lanes of which one by one that is said. ``port``: as it stands
        in the packet; ``at``: where frames begin behind the outer IP header's first byte; ``spaces``: namespaces of the devices."""
        cdef Dev dev
        cdef const Eight *e = self.e
        memset(&dev, 0, sizeof(Dev))
        self.fc.n_shapes = 1
        self.fc.shape[0].ns = spaces[0]
        self.fc.shape[0].at = at
        self.fc.shape[0].port = port
        self.fc.shape[0].proto = 17
        self.fc.shape[0].frames = True
        alone = 0
        for k in range(8):
            dev.ns = spaces[k]
            alone |= tunnel_plain(self.fc, &dev, e.frame[k], e.length[k], e.at) << k
        return lanes_tunnelled(e, port), alone

    def stand(self, list serials, list noted, list statuses, list expires, list sports, int64_t now):
        """After looks(): lanes whose connections are known to stand and whose tunnels are known; and the same one by one."""
        cdef Eight *e = self.e
        cdef int k
        self.c.now = now
        for k in range(8):
            self.ct[k].serial = serials[k]
            self.ct[k].status = statuses[k]
            self.ct[k].expires = expires[k]
            e.serial[k] = noted[k]
            e.sport[k] = sports[k]
            e.lane[k] = <const uint8_t *>&self.lane
            e.way[k] = <const uint8_t *>&self.way
            e.ct[k] = <uint8_t *>&self.ct[k]
        lanes_pass(e, now)
        return e.stands, sum(lane_stands(self.c, e, k, &self.way) << k for k in range(8))

    def find(self, list flows, list lanes, uint64_t stamp, bint apart=True):
        """After looks(): of each lane the flow that is known to be its own, of ``flows``: (slots behind its first one, addresses, ports,
        program, serials, sport); and, ``apart``, the same one by one. ``lanes``: (place, stamp) of programs."""
        cdef Eight *e = self.e
        cdef Flow *f
        cdef const Flow *found
        cdef int k
        memory, table = bytearray(8 * 256 * sizeof(Flow) + 64), bytearray(len(lanes) * sizeof(Lane) + 64)
        cdef uint8_t[::1] slots = memory, rows = table
        cdef Flow *first = <Flow *>((<size_t>&slots[0] + 63) & ~<size_t>63)
        self.fc.lane = <Lane *>((<size_t>&rows[0] + 63) & ~<size_t>63)
        self.fc.lanes_stamp = stamp
        self.row.fc = self.fc
        for i, (place, filled) in enumerate(lanes):
            self.fc.lane[i].place = place
            self.fc.lane[i].stamp = filled
            self.fc.lane[i].way = &self.way
        for k in range(8):
            e.slot[k] = <const uint8_t *>(first + 256 * k)
            for at, addresses, ports, number, serials, sport in flows[k]:
                f = first + 256 * k + <int>at
                f.addresses = addresses
                f.ports = ports
                f.program = number
                memcpy(f.serial, <const uint8_t *><bytes>serials, 4)
                f.sport = sport
        seen, alone = lanes_find(e, self.fc.lane, stamp), []
        together = [(<const Flow *>e.slot[k] - (first + 256 * k), e.serial[k], e.sport[k], <const Lane *>e.lane[k] - self.fc.lane,
                     <const LaneWay *>e.way[k] == &self.way) if seen >> k & 1 else None for k in range(8)]
        for k in range(8 if apart else 0):
            e.slot[k] = <const uint8_t *>(first + 256 * k)
            found = lane_flow(self.row, e, k)
            alone.append((found - (first + 256 * k), (<const uint32_t *>found.serial)[0], found.sport, found.program - 1, True)
                         if found != NULL else None)
        self.fc.lane = NULL
        return together, alone

    cdef uint32_t follows(self, Eight *hand, int64_t now):
        """Bits of lanes that pass, as another thread finds that out which is handed their slip."""
        cdef LaneSlip slip
        cdef uint32_t known = lanes_known(self.e)
        for k in range(8):
            self.e.number[k] = 0
        self.lane.way = &self.way
        slip_of(&slip, self.e)
        slip_told(hand, &slip)
        lanes_found(hand, &self.lane)
        memcpy(hand.draw, self.e.draw, sizeof(hand.draw))
        return known & lanes_follow(hand, now)

    def together(self, list draws, list sports, int64_t now, bint by_two):
        """After looks(): lanes that passed, what connections are then, and what left. ``by_two``: as two threads do it."""
        cdef Eight *e = self.e
        cdef Eight other
        cdef Eight *hand = &other if by_two else e
        cdef LaneReply reply
        cdef int k
        for k in range(8):
            e.lane[k] = <const uint8_t *>&self.lane
            e.way[k] = <const uint8_t *>&self.way
            e.ct[k] = <uint8_t *>&self.ct[k]
            e.other[k] = NULL
            e.draw[k] = draws[k]
            e.sport[k] = sports[k]
        passed = self.follows(hand, now) if by_two else lanes_pass(e, now)
        for k in range(8):
            if passed >> k & 1:
                lane_told(hand, k, &self.way, now)
        e.n = 8
        if by_two:
            lanes_tell(hand, &reply)
            lanes_write_told(e, &reply)
        else:
            lanes_write(e)
        left = []
        for k in range(8):
            if passed >> k & 1:
                left.append((<const uint8_t *>(e.to[k] - self.g.short.head_len))[:self.g.short.head_len + e.length_out[k]])
            else:
                left.append(None)
        return passed, [(<const uint8_t *>&self.ct[k])[:sizeof(Ct)] for k in range(8)], left

    def alone(self, int k, const uint8_t[::1] frame, uint64_t draw, uint16_t sport, int64_t now):
        """The same of one packet: does its connection pass it, what is that then, and what leaves?"""
        cdef uint8_t room[ROOM]
        cdef const uint8_t *ip = &frame[14]
        cdef Ct *ct = &self.ct[k]
        cdef Tracked at
        cdef int64_t timeout
        cdef uint32_t n = <uint32_t>frame.shape[0] - 14, total = ip[2] << 8 | ip[3]
        if not ct_tcp_passes(&ct.proto.tcp, self.track[0].dir, ip + 20, <int>total - 20, &self.ns.ct.set, &ct.status, &timeout):
            return None
        ct.expires = now + timeout
        at.ct[0] = ct
        straight_written(sport, &self.g, self.track, &at, <uint16_t>mix64(draw), ip, n, room + PKT_HEADROOM)
        n = total if self.g.short.trims else n
        return (<const uint8_t *>ct)[:sizeof(Ct)], (<const uint8_t *>(room + PKT_HEADROOM - self.g.short.head_len))[:self.g.short.head_len + n]

    @staticmethod
    def repeated(list words):
        cdef uint32_t word[8]
        for k in range(8):
            word[k] = words[k]
        return lanes_repeat(word)
