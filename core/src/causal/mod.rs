//! Links between events, chains and horizons.
