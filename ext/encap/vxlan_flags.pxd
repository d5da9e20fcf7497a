# The first word of the VXLAN header, in host byte order: include/net/vxlan.h.

cdef enum:
    VXLAN_HLEN = 8
    VXLAN_VNI = 0x08000000  # the I flag, the only one of RFC 7348
    VXLAN_GBP = 0x80000000  # group based policy: draft-smith-vxlan-group-policy
    VXLAN_GBP_DONT_LEARN = 0x00400000
    VXLAN_GBP_POLICY_APPLIED = 0x00080000
    VXLAN_GBP_USED = 0x80ffffff
    VXLAN_GPE_NEXT_PROTOCOL = 0x04000000  # generic protocol extension: draft-ietf-nvo3-vxlan-gpe
    VXLAN_GPE_VERSION = 0x30000000
    VXLAN_GPE_OAM = 0x01000000
    VXLAN_GPE_USED = 0x350000ff
