//! A paid proxy: services mounted at `/{id}/`, each route paid, paid with options, or free.
