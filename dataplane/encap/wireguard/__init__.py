"""WireGuard as Linux's drivers/net/wireguard carries it out, with its real cryptography.

The protocol is J. Donenfeld, "WireGuard: Next Generation Kernel Network Tunnel" (https://www.wireguard.com/papers/wireguard.pdf).
What it writes a real peer decrypts; but its "random" keys follow from the configuration and virtual time, so that the same input
gives the same bytes: it protects nothing and must not carry anybody's traffic.
"""
