# What a stage says of a packet: the next stage, that it is done with it, or, negative, why it drops it.
#
# A stage that returns ST_DONE has consumed, freed, queued or handed on the packet itself. Packets that a stage
# makes on the side (copies, ICMP messages, fragments) are carried to their end by ``Core.run`` before it returns.

cdef enum:
    ST_DONE = 0
    ST_RECEIVE = 1
    ST_BRIDGE_IN = 2
    ST_BRIDGE_FORWARD = 3
    ST_BRIDGE_UP = 4
    ST_BRIDGE_PORT = 5
    ST_BRIDGE_XMIT = 6
    ST_ARP = 7
    ST_IP_RECEIVE = 8
    ST_IP_ROUTE = 9
    ST_LOCAL = 10
    ST_FORWARD = 11
    ST_LOCAL_OUT = 12
    ST_OUTPUT = 13
    ST_FRAGMENT = 14
    ST_NEIGHBOUR = 15
    ST_TRANSMIT = 16
    ST_TUNNEL_OUT = 17
    ST_TRANSPORT = 18
    ST_PROXIED_SOLICITATION = 19
    ST_BRIDGE_PUSH = 20
    DEPTH_MAX = 48  # side packets within side packets; Linux stops tunnels in tunnels after 8 transmissions (XMIT_RECURSION_LIMIT)
    # first drop reason of each stage; a stage has at most 32
    DROPS_RECEIVE = 32
    DROPS_BRIDGE = 64
    DROPS_ARP = 96
    DROPS_PARSE = 128
    DROPS_CONNTRACK = 160
    DROPS_NAT = 192
    DROPS_RULES = 224
    DROPS_ROUTE = 256
    DROPS_FORWARD = 288
    DROPS_LOCAL = 320
    DROPS_OUTPUT = 352
    DROPS_NEIGHBOUR = 384
    DROPS_TRANSMIT = 416
    DROPS_TUNNEL = 448
    DROPS_FRAGMENT = 480
    DROPS_EXTENSION = 512
    DROPS_PARSE_IPV6 = 544
    DROPS_NEIGHBOUR_DISCOVERY = 576
    DROPS_FAULT = 608
    DROPS_ENCAP = 640  # those of registered encapsulations follow each other from here
    DROPS_END = 4096
