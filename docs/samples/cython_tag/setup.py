"""Builds the plug-in against the headers that an installed dataplane brings along."""

import os

from Cython.Build import cythonize
from setuptools import Extension, setup

import dataplane

HEADERS = dataplane.get_include()

setup(
    name="cython-tag",
    version="1.0",
    ext_modules=cythonize(
        [Extension("cython_tag", ["cython_tag.pyx"], include_dirs=[HEADERS, os.path.join(HEADERS, "ext", "encap")])],
        include_path=[HEADERS],
        compiler_directives={"language_level": 3},
    ),
    entry_points={"dataplane.encap": ["cython_tag = cython_tag"]},
)
