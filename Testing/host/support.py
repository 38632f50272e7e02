"""Small modules of Slicer's Python: slicer.i18n, slicer.packaging, slicer.cli, slicer.testing and SampleData."""

from __future__ import annotations

import hashlib
import logging
import re
import sys
import types
import urllib.parse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import slicer

# slicer.i18n


def translate(context: str, text: str) -> str:
    """Return the text; the host has one language, and insists on what lupdate needs."""
    if not isinstance(text, str):
        raise TypeError(f"only a literal string can be translated, got {text!r}")
    return text


def tr(text: str) -> str:
    return translate("", text)


# slicer.packaging


def load_requirements(path: str) -> list[str]:
    """Return the requirement lines of a requirements.txt."""
    from packaging.requirements import Requirement

    lines = [line.partition("#")[0].strip() for line in Path(path).read_text(encoding="utf-8").splitlines()]
    return [str(Requirement(line)) for line in lines if line]


def pip_ensure(
    requirements: str | Sequence[str],
    *,
    requester: str | None = None,
    prompt: bool = True,
    skip_in_testing: bool = True,
) -> None:
    """Do nothing in testing mode; otherwise ask, and refuse to install anything into the environment of the tests."""
    if skip_in_testing and slicer.app.testingEnabled():
        return
    names = [requirements] if isinstance(requirements, str) else list(requirements)
    question = f"{requester or 'A module'} needs {', '.join(names)}. Install?"
    if prompt and not slicer.util.confirmOkCancelDisplay(question):
        raise RuntimeError("Installation of the required packages was declined")
    pip_install(names)


def pip_install(requirements: str | Sequence[str], **_options: Any) -> None:
    raise RuntimeError(f"the test host installs nothing, asked for {requirements}")


def pip_uninstall(requirements: str | Sequence[str], **_options: Any) -> None:
    raise RuntimeError(f"the test host uninstalls nothing, asked for {requirements}")


# slicer.cli


def _no_cli(name: str) -> Callable:
    def refuse(*_arguments: Any, **_keywords: Any) -> None:
        raise NotImplementedError(f"slicer.cli.{name}: this host has no CLI modules, as Slicer in its generic tests")

    return refuse


# slicer.testing


def exitSuccess() -> None:
    raise SystemExit(0)


def exitFailure(message: str = "") -> None:
    logging.error(message)
    raise SystemExit(1)


# SampleData


class SampleDataSource:
    """One data set that the user can fetch by name."""

    def __init__(
        self,
        sampleName: str | None = None,
        sampleDescription: str | None = None,
        uris: str | list[str] | None = None,
        fileNames: str | list[str] | None = None,
        nodeNames: str | list[str] | None = None,
        checksums: str | list[str] | None = None,
        loadFiles: bool | list[bool] | None = None,
        customDownloader: Callable | None = None,
        thumbnailFileName: str | None = None,
        loadFileType: str | list[str] | None = None,
        loadFileTypes: str | list[str] | None = None,
        loadFileProperties: dict | None = None,
    ) -> None:
        self.sampleName = sampleName
        self.sampleDescription = sampleDescription or sampleName
        self.uris = _as_list(uris)
        self.fileNames = _as_list(fileNames)
        self.nodeNames = _as_list(nodeNames)
        self.checksums = _as_list(checksums)
        self.loadFileTypes = _as_list(loadFileTypes if loadFileTypes is not None else loadFileType)
        self.loadFileProperties = loadFileProperties or {}
        self.customDownloader = customDownloader
        self.thumbnailFileName = thumbnailFileName
        self._check()

    def _check(self) -> None:
        if not self.sampleName:
            raise ValueError("a sample needs a name")
        if self.customDownloader is not None:
            return
        counts = {len(values) for values in (self.uris, self.fileNames, self.nodeNames)}
        if counts == {0} or len(counts) > 1:
            raise ValueError(f"{self.sampleName}: uris, fileNames and nodeNames must have one length")
        if len(self.checksums) != len(self.uris):
            raise ValueError(f"{self.sampleName}: every file needs a checksum")
        for checksum in self.checksums:
            if not re.fullmatch(r"SHA256:[0-9a-f]{64}", checksum):
                raise ValueError(f"{self.sampleName}: {checksum!r} is not SHA256: and 64 hexadecimal digits")


def _as_list(value: Any) -> list:
    return [] if value is None else list(value) if isinstance(value, list | tuple) else [value]


class SampleDataLogic:
    """The registered sources by category; downloads read local files only, the tests have no network."""

    sources: dict[str, list[SampleDataSource]] = {}
    categories: dict[str, str] = {}

    @classmethod
    def registerCustomSampleDataCategory(cls, category: str, title: str | None = None, **_more: Any) -> None:
        cls.categories[category] = title or category

    @classmethod
    def registerCustomSampleDataSource(
        cls, category: str = "Custom", sampleName: str | None = None, **description: Any
    ) -> None:
        source = SampleDataSource(sampleName, **description)
        if source.thumbnailFileName is not None and not Path(source.thumbnailFileName).is_file():
            raise FileNotFoundError(f"{sampleName}: no thumbnail {source.thumbnailFileName}")
        others = [other for other in cls.sources.get(category, []) if other.sampleName != sampleName]
        cls.sources[category] = [*others, source]

    @classmethod
    def source(cls, sampleName: str) -> SampleDataSource:
        for sources in cls.sources.values():
            for source in sources:
                if source.sampleName == sampleName:
                    return source
        raise KeyError(f"No sample named {sampleName}")

    def downloadSample(self, sampleName: str) -> Any:
        nodes = self.downloadSamples(sampleName)
        return nodes[0] if nodes else None

    def downloadSamples(self, sampleName: str) -> list:
        return self.downloadFromSource(self.source(sampleName))

    def downloadFromSource(self, source: SampleDataSource) -> list:
        if source.customDownloader is not None:
            result = source.customDownloader(source)
            return _as_list(result)
        nodes = []
        for index, (uri, name) in enumerate(zip(source.uris, source.nodeNames, strict=True)):
            path = _local_file(uri)
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            if source.checksums[index] != f"SHA256:{digest}":
                raise ValueError(f"{source.sampleName}: {path.name} has checksum SHA256:{digest}")
            kind = source.loadFileTypes[index] if source.loadFileTypes else "VolumeFile"
            properties = {**source.loadFileProperties, "name": name}
            nodes.append(slicer.util.loadNodeFromFile(str(path), kind, properties))
        return nodes


def _local_file(uri: str) -> Path:
    parts = urllib.parse.urlparse(uri)
    if parts.scheme != "file":
        raise NotImplementedError(f"the test host downloads nothing, asked for {uri}")
    return Path(urllib.parse.unquote(parts.path))


def downloadSample(sampleName: str) -> Any:
    return SampleDataLogic().downloadSample(sampleName)


def downloadSamples(sampleName: str) -> list:
    return SampleDataLogic().downloadSamples(sampleName)


def downloadFromURL(uris: str | list[str] | None = None, **_more: Any) -> None:
    raise NotImplementedError(f"the test host downloads nothing, asked for {uris}")


def forget_sample_data() -> None:
    SampleDataLogic.sources.clear()
    SampleDataLogic.categories.clear()


def _module(name: str, **members: Any) -> types.ModuleType:
    module = types.ModuleType(name)
    vars(module).update(members)
    sys.modules[name] = module
    return module


def install() -> None:
    """Put the modules where module scripts import them from."""
    slicer.i18n = _module("slicer.i18n", tr=tr, translate=translate)
    slicer.packaging = _module(
        "slicer.packaging",
        load_requirements=load_requirements,
        pip_ensure=pip_ensure,
        pip_install=pip_install,
        pip_uninstall=pip_uninstall,
    )
    cli = {name: _no_cli(name) for name in ("run", "runSync", "createNode", "setNodeParameters", "cancel")}
    slicer.cli = _module("slicer.cli", **cli)
    slicer.testing = _module("slicer.testing", exitSuccess=exitSuccess, exitFailure=exitFailure)
    _module(
        "SampleData",
        SampleDataLogic=SampleDataLogic,
        SampleDataSource=SampleDataSource,
        downloadSample=downloadSample,
        downloadSamples=downloadSamples,
        downloadFromURL=downloadFromURL,
    )
