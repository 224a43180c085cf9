"""The encoder as a service over gRPC: one machine with a GPU encodes for many thin clients."""
