//! Slot layouts and the linear algebra on them.
