"""The metadata quorum: what the cluster agrees on, and the Raft that makes it agree."""
