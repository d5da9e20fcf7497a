"""Capture files: reading and writing pcap and pcapng, dissecting and comparing frames, Wireshark's profile."""
