"""One plugin package per kind, which `roadwork plugins new` copies under another name."""
