"""The prepared arrays in Croissant, MLCommons' description of data sets that other programs read.

Specification: http://mlcommons.org/croissant/1.0
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from pipeline.files import sha256_file

#: Of the names and layout of the arrays: higher when they change.
VERSION: Final = "1.0.0"

#: The specification's own, word for word: a reader warns of any other.
_CONTEXT: Final = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}

_LINK: Final = re.compile(r"https?://[^\s,;)\]]+")
#: Not the beginning of a number such as arXiv's 2004.04795.
_YEAR: Final = re.compile(r"\b(?:19|20)\d\d\b(?!\.\d)")


def description(facts: Mapping[str, Any], folders: Mapping[str, Path], draw: str, target: Path) -> dict[str, Any]:
    """Describes the prepared arrays: JSON-LD of Croissant 1.0, the same whenever the arrays are the same.

    Args:
        facts: Title, licence, citation, classes and image_shape, as `metrics/data.json` has them. The first link and
            the last year of the citation become the description's own.
        folders: The folder of each split by its name; each of its `.npy` files is listed with its sha256.
        draw: A sentence on the split, and on how the binary images were drawn.
        target: Where the description is to be written: links to the files start in its folder.

    Returns:
        What JSON holds. Splits (name, count) and classes (label, name) are record sets with the values in them.
    """
    rows, columns = facts["image_shape"]
    splits = [{"name": split, "count": len(_header(folder / "labels.npy"))} for split, folder in folders.items()]
    classes = [{"label": label, "name": name} for label, name in enumerate(facts["classes"])]
    link, years = _LINK.search(facts["citation"]), _YEAR.findall(facts["citation"])
    content = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": facts["title"],
        "description": (
            f"{facts['title']} as gray images of {rows} x {columns} pixels, numpy's .npy files for each split: images "
            f"in [0, 1], labels, index (the place in the data set), class_names, and binarised where binary images "
            f"are scored. {draw}"
        ),
        "version": VERSION,
        "license": facts["licence"],
        "citeAs": facts["citation"],
        "url": link and link.group().rstrip("."),
        "datePublished": years and years[-1],
        "distribution": [
            _file(split, file, target) for split, folder in folders.items() for file in sorted(folder.glob("*.npy"))
        ],
        "recordSet": [
            _records("splits", "cr:Split", "name", splits),
            _records("classes", "sc:Enumeration", "label", classes),
        ],
    }
    return {key: value for key, value in content.items() if value}


def _header(file: Path) -> Any:
    """The array of a `.npy` file, whose values stay on the disk."""
    return np.load(file, mmap_mode="r", allow_pickle=False)


def _file(split: str, file: Path, target: Path) -> dict[str, str]:
    array = _header(file)
    return {
        "@type": "cr:FileObject",
        "@id": f"{split}/{file.name}",
        "name": f"{split}/{file.name}",
        "description": f"{array.dtype} {array.shape}",
        "contentUrl": Path(os.path.relpath(file, target.parent)).as_posix(),
        "contentSize": f"{file.stat().st_size} B",
        "encodingFormat": "application/x-npy",
        "sha256": sha256_file(file),
    }


def _records(name: str, kind: str, key: str, records: list[dict[str, Any]]) -> dict[str, Any]:
    """A record set of records that all have the same fields, texts or whole numbers."""
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "dataType": kind,
        "key": {"@id": f"{name}/{key}"},
        "field": [
            {
                "@type": "cr:Field",
                "@id": f"{name}/{field}",
                "name": field,
                "dataType": "sc:Text" if isinstance(value, str) else "sc:Integer",
            }
            for field, value in records[0].items()
        ],
        "data": [{f"{name}/{field}": value for field, value in record.items()} for record in records],
    }
