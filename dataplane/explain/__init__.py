"""Why a packet goes where it goes: walks hop by hop, every outcome of a random choice, as text, JSON and captures."""
