"""The quorum alone, simulated: a few voters over their real transport, log and snapshots, and nothing of a broker."""
