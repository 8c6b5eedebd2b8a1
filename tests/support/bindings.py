"""What our sources use of TensorRT's Python bindings, and what the real bindings have.

The wheel of the bindings lacks the libraries: those of TensorRT-RTX stand in for them, so that the
module can be imported and looked at. Nothing of it is called.
"""

import ast
import ctypes
import io
import json
import logging
import mmap
import os
import re
import subprocess
import sys
import weakref
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from export.engines.packages import PACKAGES

ROOT = Path(__file__).parents[2]
USERS = (
    *("pipeline/engines/gpu.py", "pipeline/engines/tensorrt.py", "export/engines/build.py"),
    *("export/engines/callbacks.py", "export/engines/network.py"),
)
"""The files that call TensorRT."""
CUDA = r"cuda[A-Z]\w*"
"""Names of CUDA's runtime."""
ROLES = {
    "trt": ("",),
    "runtime": ("Runtime",),
    "engine": ("ICudaEngine",),
    "_context": ("IExecutionContext",),
    "builder": ("Builder",),
    "network": ("INetworkDefinition",),
    "parser": ("OnnxParser",),
    "layer": ("ILayer", "IAttentionOutputLayer"),
    "attention": ("IAttention",),
    "e": ("ParserError",),
}
"""What we call an object of the bindings -> its class; "" is the module. Other receivers' names are
looked for in every class."""
ENUMERATIONS = ("DataType", "LayerType", "TensorIOMode", "BuilderFlag", "Logger")
"""Whose members we name in strings; a logger has its severities."""
AMBIGUOUS = ("engine", "builder")
"""Roles that objects of ours have too."""
GONE = ("STRONGLY_TYPED",)
"""Asked for where it may be missing: all of TensorRT 11 is strongly typed."""
Surface = dict[str, dict[str, Any]]
"""Class -> name -> signatures (least and most arguments) of what is called, else whether it can be
set; of enumerations the members, with None. "" is the module itself."""

_LOOK = """
import inspect, json, sys
import tensorrt_bindings as trt

def look(owner):
    found = {}
    for name in dir(owner):
        value = getattr(owner, name)
        if isinstance(value, property):
            found[name] = bool(value.fset)
        elif inspect.isclass(value) or callable(value):
            value = value.__init__ if inspect.isclass(value) else value
            found[name] = value.__doc__ or ""
        else:
            found[name] = None
    return found

classes = {name: value for name, value in vars(trt).items() if inspect.isclass(value)}
json.dump({"": look(trt), **{name: look(value) for name, value in classes.items()}}, sys.stdout)
"""


def importable_bindings(folder: Path, packages: Path = PACKAGES) -> Path:
    """A folder from which the module `tensorrt_bindings` can be imported without TensorRT."""
    module = folder / "tensorrt_bindings"
    module.mkdir(parents=True)
    real = packages / "tensorrt_bindings"
    (module / "__init__.py").write_bytes((real / "__init__.py").read_bytes())
    code = (real / "tensorrt.so").read_bytes()
    # No library here has the plugins; the function is named and never called.
    missing, there = b"\0initLibNvInferPlugins\0", b"\0getPluginRegistry"
    (module / "tensorrt.so").write_bytes(code.replace(missing, there.ljust(len(missing), b"\0")))
    (parser,) = (packages / "tensorrt_rtx_libs").glob("libtensorrt_onnxparser_rtx.so*")
    (library,) = (packages / "tensorrt_rtx_libs").glob("libtensorrt_rtx.so*")
    for name, target in (
        ("nvinfer", library),
        ("nvinfer_plugin", library),
        ("nvonnxparser", parser),
    ):
        (module / f"lib{name}.so.11").symlink_to(target)
    return folder


def read_surface(folder: Path) -> Surface:
    """Everything that the bindings in `folder` have."""
    command = [sys.executable, "-c", _LOOK]
    done = subprocess.run(command, env={"PYTHONPATH": str(folder)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return {
        owner: {
            name: _signatures(value) if isinstance(value, str) else value
            for name, value in members.items()
        }
        for owner, members in json.loads(done.stdout).items()
    }


def _signatures(doc: str) -> list[tuple[int, int]]:
    """Of every overload in a docstring of pybind11: arguments that must and that may be given."""
    found = []
    for text in re.findall(r"^(?:\d+\. )?\w+\((.*)\) -> ", doc, re.MULTILINE):
        flat, before = text, ""
        while flat != before:
            flat, before = re.sub(r"[\[(<][^\[\](<>)]*[\])>]", "", flat), flat
        arguments = [a for a in re.split(r",\s*", flat) if a and not a.startswith("self")]
        found.append((sum("=" not in a for a in arguments), len(arguments)))
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """One use of a name of the bindings."""

    where: str
    owners: tuple[str, ...]
    """Classes of which one must have the name; none: any of them."""
    name: str
    arguments: int | None = None
    """How many are given, where it is called."""
    is_set: bool = False


def uses(sources: Mapping[str, str], own: set[str]) -> Iterator[Use]:
    """Every use of the bindings in Python sources, file -> text.

    `own` are names of attributes that are known not to be theirs. Strings in capitals are names of
    members of enumerations, and methods of subclasses those of their base.
    """
    for file, text in sources.items():
        tree = ast.parse(text)
        imported = {
            (alias.asname or alias.name).split(".")[0]
            for node in ast.walk(tree)
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
        }
        calls = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
        for node in ast.walk(tree):
            where = f"{file}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Attribute) and _root(node) not in imported:
                if re.match(CUDA, node.attr):
                    continue
                yield from _of_attribute(node, calls.get(id(node)), where, own)
            elif isinstance(node, ast.Constant) and re.fullmatch(
                r"[A-Z][A-Z0-9_]+", str(node.value)
            ):
                if node.value not in GONE:
                    yield Use(where=where, owners=ENUMERATIONS, name=str(node.value))
            elif isinstance(node, ast.ClassDef):
                for base in node.bases:
                    if ast.unparse(base).startswith("trt."):
                        yield from _of_methods(node, ast.unparse(base).removeprefix("trt."), where)


def _of_attribute(
    node: ast.Attribute, call: ast.Call | None, where: str, own: set[str]
) -> Iterator[Use]:
    receiver = ast.unparse(node.value).split("(")[0].split(".")
    owners = ROLES.get(receiver[-1], ())
    if len(receiver) > 1 and receiver[-2] == "trt":  # a class of the module
        owners = (receiver[-1],)
    elif node.attr in own and (not owners or receiver[-1] in AMBIGUOUS):
        return
    arguments = None
    if call is not None and not any(isinstance(a, ast.Starred) for a in call.args):
        arguments = len(call.args) + len(call.keywords)
        arguments -= node.attr == "__init__"  # self
    is_set = isinstance(node.ctx, ast.Store)
    yield Use(where=where, owners=owners, name=node.attr, arguments=arguments, is_set=is_set)


def _of_methods(node: ast.ClassDef, base: str, where: str) -> Iterator[Use]:
    for method in node.body:
        if isinstance(method, ast.FunctionDef) and not method.name.startswith("_"):
            given = len(method.args.args) - 1
            yield Use(where=where, owners=(base,), name=method.name, arguments=given)


def _root(node: ast.expr) -> str:
    while isinstance(node, ast.Attribute | ast.Call | ast.Subscript):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


def misfits(found: Sequence[Use], surface: Surface) -> list[str]:
    """What the bindings do not have, or have with other arguments, or do not let anybody set."""
    wrong = []
    for use in found:
        owners = [o for o in use.owners or surface if use.name in surface.get(o, {})]
        if not owners:
            names = " or ".join(owner or "the module" for owner in use.owners) or "anything"
            wrong.append(f"{use.where}: {use.name} is no name of {names}")
            continue
        kinds = [surface[owner][use.name] for owner in owners]
        if use.is_set and True not in kinds and use.name != "__class__":
            wrong.append(f"{use.where}: {use.name} cannot be set")
        if use.arguments is not None and not any(takes(k, use.arguments) for k in kinds):
            wrong.append(f"{use.where}: {use.name} takes {kinds}, not {use.arguments} arguments")
    return wrong


def takes(kind: Any, arguments: int) -> bool:
    """Whether a name of the bindings can be called with so many arguments."""
    return isinstance(kind, list) and any(low <= arguments <= high for low, high in kind)


def own_names() -> set[str]:
    """Names of attributes that our sources define, and those of Python's, numpy's and ONNX's types
    that the files above work with."""
    types = (str, bytes, list, dict, set, deque, Counter, Path, np.ndarray, mmap.mmap)
    types = (*types, BaseException, weakref.finalize, logging.Logger, io.TextIOWrapper)
    types = (*types, os.stat_result, ctypes.Array, type(ctypes.c_char))
    found = {name for each in types for name in dir(each)}
    found |= {"HasField"}.union(*(m.fields_by_name for m in _messages(onnx.ModelProto.DESCRIPTOR)))
    for file in (*ROOT.glob("pipeline/**/*.py"), *ROOT.glob("export/engines/*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                found.add(node.name)
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                found.add(node.target.id)
            elif isinstance(node, ast.Attribute) and ast.unparse(node) == f"self.{node.attr}":
                found |= {node.attr} if isinstance(node.ctx, ast.Store) else set()
    return found


def _messages(kind: Any, seen: tuple[Any, ...] = ()) -> tuple[Any, ...]:
    """A message of protobuf and all that it has within."""
    if kind is None or kind in seen:
        return seen
    seen = (*seen, kind)
    for field in kind.fields:
        seen = _messages(field.message_type, seen)
    return seen


def cuda_names(text: str) -> set[str]:
    """Names of CUDA's runtime in a source, as attributes and in strings."""
    tree = ast.walk(ast.parse(text))
    words = [n.attr if isinstance(n, ast.Attribute) else getattr(n, "value", "") for n in tree]
    return {word for word in words if isinstance(word, str) and re.fullmatch(CUDA, word)}


def sources() -> dict[str, str]:
    return {file: (ROOT / file).read_text() for file in USERS}
