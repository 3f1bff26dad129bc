"""The framework-neutral core: everything that is decided once for all backends."""
