//! Node-API bindings of `mesh-daemon-core`: conversion only, no decisions.
