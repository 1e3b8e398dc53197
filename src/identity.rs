//! Key pairs and derived addresses.
