"""Tests: `unit` without network or sleep, `integration` on real servers, `e2e` on the whole stack."""
