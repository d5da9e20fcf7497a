"""Builds the plug-in against one header that an installed dataplane brings along."""

import os

from setuptools import Extension, setup

import dataplane

HEADERS = os.path.join(dataplane.get_include(), "ext", "encap")

setup(
    name="c-tag",
    version="1.0",
    ext_modules=[Extension("c_tag", ["c_tag.c"], include_dirs=[HEADERS])],
    entry_points={"dataplane.encap": ["c_tag = c_tag"]},
)
