"""Tests of infra/ without network."""
