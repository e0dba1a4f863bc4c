"""openml:NAME against a real HTTP server on the loopback that stands in for OpenML.

Its answers for iris and cpu are those of OpenML itself, as scikit-learn ships them.
"""

import gzip
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files

import numpy as np
import pandas as pd
import pytest

from engram.data import openml
from engram.data.catalog import DataError, load
from engram.data.config import DataConfig

RECORDED = files("sklearn.datasets.tests.data.openml")


def recorded(number, name):
    return gzip.decompress((RECORDED / f"id_{number}" / f"{name}.gz").read_bytes())


class OpenML:
    """Answers by path; counts requests. Recorded descriptions are pointed at this server."""

    def __init__(self):
        self.answers, self.asked = {}, []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                outer.asked.append(self.path)
                status, body, length = outer.answers.get(self.path, (412, b"{}", None))
                self.send_response(status)
                self.send_header("Content-Length", str(len(body) if length is None else length))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def answer(self, path, body, status=200, length=None):
        self.answers[path] = (status, body, length)

    def dataset(self, name, number, arff, checksum=None, **about):
        md5 = checksum or hashlib.md5(arff).hexdigest()
        description = {"id": str(number), "format": "ARFF", "md5_checksum": md5, **about}
        description["url"] = f"{self.url}/data/v1/download/{number}/{name}.arff"
        found = {"data": {"dataset": [{"did": number, "name": name, "version": 1}]}}
        listing = f"/api/v1/json/data/list/data_name/{name}/limit/2"
        self.answer(f"{listing}/status/active/", json.dumps(found).encode())
        self.answer(f"{listing}/data_version/3", json.dumps(found).encode())
        self.answer(
            f"/api/v1/json/data/{number}",
            json.dumps({"data_set_description": description}).encode(),
        )
        self.answer(f"/data/v1/download/{number}/{name}.arff", arff)

    def recorded(self, name, number, arff):
        about = json.loads(recorded(number, f"api-v1-jd-{number}.json"))["data_set_description"]
        keys = ("default_target_attribute", "ignore_attribute", "row_id_attribute")
        given = {key: about[key] for key in keys if key in about}
        self.dataset(name, number, recorded(number, arff), about["md5_checksum"], **given)
        listing = recorded(number, f"api-v1-jdl-dn-{name}-l-2-s-act-.json")
        self.answer(f"/api/v1/json/data/list/data_name/{name}/limit/2/status/active/", listing)

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def server(monkeypatch):
    stand_in = OpenML()
    monkeypatch.setattr(openml, "SERVER", stand_in.url)
    yield stand_in
    stand_in.stop()


@pytest.fixture
def iris(server):
    server.recorded("iris", 61, "data-v1-dl-61.arff")
    return server


def refused(name, cache=None, **keys):
    with pytest.raises(DataError) as caught:
        load(DataConfig(name=name, **keys), cache=cache)
    return caught.value


def test_iris_is_downloaded_once_and_kept(iris, tmp_path):
    first = load(DataConfig(name="openml:iris"), cache=tmp_path)
    assert first.facts.shape == (4,)
    assert first.classes == 3
    assert len(first.inputs) + len(first.test_inputs) == 150
    assert first.inputs.mean(0) == pytest.approx(np.zeros(4), abs=1e-5)
    assert len(iris.asked) == 3
    assert sorted(p.name for p in (tmp_path / "openml").iterdir()) == ["61.arff", "iris.json"]
    iris.stop()  # offline from here on
    again = load(DataConfig(name="openml:iris"), cache=tmp_path)
    assert again.digest == first.digest


def test_values_agree_with_scikit_learns_iris():
    """Value by value; OpenML's copy has the three known errors of the UCI file."""
    from sklearn.datasets import load_iris

    frame = openml.parse(recorded(61, "data-v1-dl-61.arff"), DataConfig(name="openml:iris"))
    values = frame.drop(columns="class").to_numpy()
    theirs = load_iris()
    assert (values != theirs.data).sum() == 3
    assert [n.removeprefix("Iris-") for n in frame["class"]] == list(
        theirs.target_names[theirs.target]
    )


@pytest.mark.parametrize("name", ["openml:61", "openml:iris@3"])
def test_by_number_and_by_version(iris, name, tmp_path):
    by_name = load(DataConfig(name="openml:iris"))
    assert load(DataConfig(name=name), cache=tmp_path).digest == by_name.digest
    assert ("/data_version/3" in " ".join(iris.asked)) == ("@" in name)


def test_cpu_is_regression_with_a_nominal_feature(server):
    server.recorded("cpu", 561, "data-v1-dl-52739.arff")
    dataset = load(DataConfig(name="openml:cpu", task="regression"))
    assert dataset.classes is None
    assert dataset.facts.shape == (36,)  # 6 numbers and 30 vendors
    assert dataset.targets.std() == pytest.approx(1, abs=1e-5)


def test_pixels_become_images(server):
    pixels = np.random.default_rng(0).integers(0, 256, (30, 9))
    rows = "\n".join(",".join(map(str, [*row, i % 2])) for i, row in enumerate(pixels))
    head = "".join(f"@ATTRIBUTE pixel{i + 1} real\n" for i in range(9))
    arff = f"% a comment\n@RELATION p\n{head}@ATTRIBUTE class {{0,1}}\n@DATA\n{rows}\n".encode()
    server.dataset("small", 7, arff, default_target_attribute="class")
    dataset = load(DataConfig(name="openml:small"))
    assert dataset.kind == "image"
    assert dataset.facts.shape == (3, 3)
    ours = np.concatenate([dataset.inputs, dataset.test_inputs]).reshape(30, 9) * 255
    assert sorted(map(tuple, np.rint(ours))) == sorted(map(tuple, pixels.astype(float)))


def test_a_changed_download_is_refused_and_not_kept(iris, tmp_path):
    path = "/data/v1/download/61/iris.arff"
    good = iris.answers[path][1]
    iris.answer(path, good.replace(b"5.1", b"5.2", 1))
    error = refused("openml:iris", tmp_path)
    assert "MD5" in error.rule
    assert "ad484452702105cbf3d30f8deaba39a9" in error.rule
    assert not (tmp_path / "openml" / "61.arff").exists()
    iris.answer(path, good)
    assert load(DataConfig(name="openml:iris"), cache=tmp_path).classes == 3


def test_a_damaged_cache_is_fetched_again_or_reported(iris, tmp_path):
    first = load(DataConfig(name="openml:iris"), cache=tmp_path)
    kept = tmp_path / "openml" / "61.arff"
    kept.write_bytes(kept.read_bytes()[:-50])
    assert load(DataConfig(name="openml:iris"), cache=tmp_path).digest == first.digest
    assert hashlib.md5(kept.read_bytes()).hexdigest() == "ad484452702105cbf3d30f8deaba39a9"
    (tmp_path / "openml" / "iris.json").write_text("{ half")
    assert load(DataConfig(name="openml:iris"), cache=tmp_path).digest == first.digest
    kept.write_bytes(b"")
    iris.stop()
    assert "no sound copy" in refused("openml:iris", tmp_path).rule


def test_offline_is_told_so_at_once(server, tmp_path):
    server.stop()
    error = refused("openml:iris", tmp_path)
    assert error.key == "data.name"
    assert server.url in error.rule
    assert "run once with a connection" in error.fix
    assert "csv:FILE" in error.fix


def test_what_the_server_may_answer(iris, tmp_path):
    assert "no such dataset" in refused("openml:nosuch").rule
    assert "no such dataset" in refused("openml:iris@99").rule
    listing = "/api/v1/json/data/list/data_name/iris/limit/2/status/active/"
    good = iris.answers[listing]
    iris.answer(listing, b"<html>", 200)
    assert "no JSON" in refused("openml:iris").rule
    iris.answer(listing, b'{"data": {"dataset": []}}')
    assert "names no dataset" in refused("openml:iris").rule
    iris.answer(listing, b"", 503)
    assert "answers 503" in refused("openml:iris").rule
    iris.answers[listing] = good
    arff = "/data/v1/download/61/iris.arff"
    iris.answer(arff, iris.answers[arff][1][:100], length=5000)
    assert "broke off" in refused("openml:iris", tmp_path).rule
    about = {"id": "61", "url": "file:///etc/hostname", "md5_checksum": "0", "format": "ARFF"}
    body = json.dumps({"data_set_description": about}).encode()
    iris.answer("/api/v1/json/data/61", body)
    assert "names the address file:" in refused("openml:iris").rule
    iris.answer("/api/v1/json/data/61", body.replace(b"ARFF", b"Sparse_ARFF"))
    assert "format Sparse_ARFF" in refused("openml:iris").rule
    iris.answer("/api/v1/json/data/61", b'{"data_set_description": {"id": "61"}}')
    assert "lacks url" in refused("openml:iris").rule
    iris.answer("/api/v1/json/data/61", b"[]")
    assert "describes no dataset" in refused("openml:iris").rule


HEAD = "@relation r\n@attribute 'a b' numeric\n@attribute kind {'x, y',\"z\"}\n@attribute t {p,q}\n"
BAD_FILES = {
    "no @data line": ("nothing\n", "no @data line"),
    "sparse": (HEAD + "@data\n{0 1, 2 p}\n", "sparse"),
    "columns": (HEAD + "@data\n1,z\n", "cannot be read"),
    "text": (HEAD + "@data\none,z,p\n", "cannot be read"),
    "missing number": (
        HEAD + "@data\n1,z,p\n?,z,q\n1,z,p\n1,z,q\n",
        "row 2, column 'a b' is no number",
    ),
    "missing category": (HEAD + "@data\n1,?,p\n2,z,q\n", "row 1, column 'kind' is missing"),
    "undeclared": (HEAD + "@data\n1,z,p\n2,w,q\n", "'w' is not declared"),
    "undeclared, quoted": (HEAD + "@data\n1,'w',p\n2,z,q\n", "w not found in nominal declaration"),
    "words": (
        "@relation r\n@attribute s string\n@attribute t {p,q}\n@data\n"
        + "".join(f"text {i},{'pq'[i % 2]}\n" for i in range(9)),
        "column 's' holds 9 different texts in 9 rows",
    ),
    "one class": (HEAD + "@data\n1,z,p\n2,z,p\n", "one class, p"),
    "empty": (HEAD + "@data\n", "has no rows"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_unusable_arff(server, name):
    text, rule = BAD_FILES[name]
    server.dataset("bad", 5, text.encode())
    error = refused("openml:bad")
    assert rule in error.rule
    assert error.key == "data.name"


def test_quoted_names_and_categories(server):
    rows = "1,'x, y',p\n2,z,q\n" * 12
    server.dataset("quoted", 5, (HEAD + "@data\n" + rows).encode())
    dataset = load(DataConfig(name="openml:quoted"))
    assert dataset.facts.shape == (3,)
    assert refused("openml:quoted", target="u").key == "data.target"
    by_name = load(DataConfig(name="openml:quoted", target="a b"))
    assert by_name.facts.shape == (4,)


def test_plain_rows_are_what_the_library_reads():
    """A comment line sends the same rows through the library alone."""
    rows = "1,z,p\n 2.5 , z ,q\n?,z,p\n1e-3,?,q\n"
    config = DataConfig(name="openml:both")
    fast = openml.parse(f"{HEAD}@data\n{rows}".encode(), config)
    slow = openml.parse(f"{HEAD}@data\n% said otherwise\n{rows}".encode(), config)
    pd.testing.assert_frame_equal(fast, slow)
