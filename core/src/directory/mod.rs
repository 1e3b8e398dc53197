//! Claims: which node hosts which daemon, at which epoch.
