"""Data sets in a bucket: read by listing, brought in bulk, confined, and otherwise like those in a folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from builders import picture, small_engine
from hypothesis import example, given, settings
from hypothesis import strategies as st

from worldexplorer.batch import prepare_batch
from worldexplorer.config import BatchConfig, RunConfig
from worldexplorer.dataset import (
    METADATA_SIZE_LIMIT,
    Dataset,
    ExpansionOverrides,
    Job,
    ScaffoldOverrides,
    load_dataset,
    remote,
    require_jobs,
    resolve_jobs,
)
from worldexplorer.dataset.bucket import BucketSource
from worldexplorer.dataset.handover import describe_job, fetch_job, restore_job
from worldexplorer.dataset.listing import FOLDERS_LISTED, SINGLE_FILES, Listing, merged
from worldexplorer.dataset.paths import PathRules
from worldexplorer.dataset.remote import mirror_folder
from worldexplorer.errors import DefectError, TransientError, UsageError, UserError
from worldexplorer.scaffold.provided import provided_files
from worldexplorer.selection import IndexSelection
from worldexplorer.storage import LocalStorage, NotFoundError, ObjectInfo
from worldexplorer.trajectory import own_paths
from worldexplorer.trajectory.own_paths import load_trajectories, trajectories_folder

URI = "gs://sets/curated"
NAME_THE_FOLDER = "What to do: let --dataset_dir name the folder that holds metadata.json"
INSIDE = "What to do: copy what it needs into the data set, and name it by a path relative to the data set"


class FolderAsBucket:
    """A bucket's folder kept in a local one: what it is asked is counted, and any object may fail."""

    def __init__(self, folder, uri=URI):
        self._local = LocalStorage(folder)
        self.uri = uri
        self.calls = Counter()
        self.listed = []
        self.asked = []
        self.fetched = []
        self.faults = {}

    def _check(self, key):
        if key in self.faults:
            raise self.faults[key]

    def stat(self, key):
        self.asked.append(key)
        self._check(f"stat {key}")
        return self._local.stat(key)

    def exists(self, prefix):
        self.calls["exists"] += 1
        return self._local.exists(prefix)

    def read(self, key):
        self.calls["read"] += 1
        self._check(key)
        return self._local.read(key)

    def list(self, prefix):
        self.listed.append(prefix)
        self._check(f"list {prefix}")
        yield from self._local.list(prefix)

    def local_copies(self, keys, scratch):
        self.calls["local_copies"] += 1
        for key in keys:
            self._check(key)
        for key in keys:
            if self._local.stat(key) is None:
                raise NotFoundError("no such object", where=f"{URI}/{key}")
        for key in keys:
            self.fetched.append(key)
            (scratch / key).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self._local.local_copies([key], scratch)[0], scratch / key)
        return [scratch / key for key in keys]

    def map(self, function, items):
        return [function(item) for item in items]


class ObjectsInMemory:
    """Just enough of a bucket's folder to look for things in it."""

    uri = URI

    def __init__(self, keys):
        self._keys = keys
        self.asked = []

    def stat(self, key):
        assert key, "no object has an empty name"
        self.asked.append(key)
        return ObjectInfo(key, 1, 0.0) if key in self._keys else None

    def list(self, prefix):
        for key in sorted(self._keys):
            if not prefix or key.startswith(f"{prefix}/"):
                yield ObjectInfo(key, 1, 0.0)

    def map(self, function, items):
        return [function(item) for item in items]


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLDEXPLORER_SCRATCH", str(tmp_path / "scratch"))
    monkeypatch.setattr(remote, "_mirrors", {})
    return tmp_path / "scratch"


@pytest.fixture
def bucket(tmp_path, scratch, monkeypatch):
    bucket = FolderAsBucket(tmp_path / "bucket")

    def opened(uri):
        assert uri.rstrip("/") == URI
        return bucket

    monkeypatch.setattr(remote, "open_storage", opened)
    return bucket


@pytest.fixture
def put(tmp_path):
    """Write objects: every name gets its own bytes, or those given."""

    def write(*names, **contents):
        for name in names:
            path = tmp_path / "bucket" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(contents.get("content", name.encode()))

    return write


@pytest.fixture
def describe_set(put):
    def write(*samples, **more):
        document = {"samples": [{"index": index, **fields} for index, fields in enumerate(samples)], **more}
        put("metadata.json", content=json.dumps(document).encode())

    return write


def load():
    return load_dataset(URI, confine_paths=False)


def message():
    with pytest.raises(UsageError) as caught:
        load()
    return str(caught.value)


class TestReading:
    def test_places_lie_in_the_mirror_and_nothing_is_fetched(self, bucket, put, describe_set, scratch):
        describe_set({"photorealistic": {"path": "photos/a.png"}}, {"stylized": {"path": "photos/b.png"}})
        put("photos/a.png", "photos/b.png")
        found = resolve_jobs(load())
        assert [job.image.relative_to(mirror_folder(URI)).as_posix() for job in found.jobs] == [
            "photos/a.png",
            "photos/b.png",
        ]
        assert bucket.fetched == []
        (mirror,) = scratch.iterdir()
        assert found.jobs[0].image == mirror / "sets/curated/photos/a.png"
        assert not found.jobs[0].image.exists()

    def test_a_slash_at_the_end_changes_nothing(self, bucket, describe_set):
        describe_set({})
        assert load_dataset(f"{URI}/", confine_paths=False).where == f"{URI}/metadata.json"

    def test_an_empty_folder_is_not_there(self, bucket):
        assert message() == f"Dataset directory not found: it does not exist ({URI}). {NAME_THE_FOLDER}"

    def test_the_file_is_not_there(self, bucket, put):
        put("photos/a.png")
        assert message() == (
            f"the data set's metadata.json is not there: it does not exist ({URI}/metadata.json). {NAME_THE_FOLDER}"
        )

    def test_the_file_is_too_large_and_stays_unread(self, bucket, put, tmp_path):
        put("metadata.json")
        with (tmp_path / "bucket/metadata.json").open("wb") as file:
            file.truncate(METADATA_SIZE_LIMIT)
        assert message() == (
            f"metadata.json has 67,108,864 bytes; it must stay under 67,108,864 ({URI}/metadata.json). "
            "What to do: split the data set into several folders"
        )
        assert bucket.calls["read"] == 0

    def test_mistakes_are_named_with_the_uri(self, bucket, put, describe_set):
        put("metadata.json", content=b'{"samples": [\n  {"index": 0},\n]}')
        assert message().startswith(
            f"metadata.json is not JSON: Expecting value ({URI}/metadata.json, line 3, column 1)"
        )
        describe_set({"theme": 5})
        assert message() == (
            f"samples[0].theme is 5: expected one line of at most 2,000 characters ({URI}/metadata.json). "
            "What to do: correct this place and run the same command again"
        )

    @pytest.mark.parametrize("place", ["s3://sets/curated", "https://sets/curated", "GS://sets/curated", "://"])
    def test_other_kinds_of_places(self, place):
        with pytest.raises(UsageError) as caught:
            load_dataset(place, confine_paths=False)
        assert str(caught.value) == (
            "Dataset directory not found: it is neither a folder nor in a bucket of Google Cloud Storage "
            f"({place}). What to do: give a folder, or gs://BUCKET/FOLDER"
        )

    def test_a_bucket_that_cannot_be_opened(self, monkeypatch):
        def refused(uri):
            raise UsageError("there is no bucket sets", where=uri, remedy="create it")

        monkeypatch.setattr(remote, "open_storage", refused)
        assert message() == f"Dataset directory not found: there is no bucket sets ({URI}). What to do: create it"

    @pytest.mark.parametrize("request_", ["stat metadata.json", "metadata.json", "list images"])
    def test_what_is_refused_of_the_set_itself_stops_it_all(self, bucket, describe_set, put, request_):
        describe_set({})
        put("images/0.png")
        bucket.faults[request_] = UserError("access is refused", where=f"{URI}/x", remedy="ask for it")
        assert message() == f"access is refused ({URI}/x). What to do: ask for it"

    def test_no_jobs_to_run(self, bucket, put, describe_set):
        describe_set({"stylized": {"path": "gone.png"}})
        dataset = load()
        found = resolve_jobs(dataset)
        with pytest.raises(UsageError, match=rf"No jobs to run: .*\({URI}/metadata\.json\)"):
            require_jobs(found, dataset)

    def test_no_such_index(self, bucket, describe_set):
        describe_set({})
        with pytest.raises(UsageError, match=rf"no such index: 7 \(--indices, {URI}/metadata\.json\)"):
            resolve_jobs(load(), IndexSelection.parse(["7"]))


class TestConfinement:
    @pytest.mark.parametrize(
        "path",
        ["../private/key.png", "photos/../../private/key.png", "/photos/a.png", "//photos/a.png", "..", "../curated/a"],
    )
    def test_no_path_leads_out(self, bucket, put, describe_set, path):
        describe_set({"stylized": {"original_path": path}})
        put("photos/a.png")
        assert message() == (
            f"samples[0].stylized.original_path leads out of the data set: {json.dumps(path)} ({URI}/metadata.json). "
            f"{INSIDE}"
        )

    @pytest.mark.parametrize(
        "path", ["gs://sets/curated/photos/a.png", "https://example.org/a.png", "file:/etc/passwd"]
    )
    def test_urls_are_refused(self, bucket, describe_set, path):
        describe_set({"photorealistic": {"path": path}})
        assert message() == (
            f"samples[0].photorealistic.path is a URL, and only files of the data set may be named: {json.dumps(path)} "
            f"({URI}/metadata.json). {INSIDE}"
        )

    def test_every_kind_of_path_is_confined(self, bucket, describe_set):
        out = "../x"
        describe_set(
            {"photorealistic": {"path": out, "filename": "../../x"}},
            {"stylized": {"scaffold_path": out}},
            {"scaffold": {"scaffold_path": out, "input_image": out}},
        )
        assert message().startswith("metadata.json has 5 problems:")

    def test_paths_that_stay_inside_are_fine_however_they_go(self, bucket, put, describe_set):
        paths = ["photos/a.png", "./photos//a.png", "photos/../photos/a.png", "nowhere/../photos/a.png"]
        describe_set(*({"stylized": {"path": path}} for path in paths))
        put("photos/a.png")
        found = resolve_jobs(load())
        assert [job.image for job in found.jobs] == [mirror_folder(URI) / "photos/a.png"] * len(paths)

    @given(st.lists(st.sampled_from(["..", ".", "photos", "a.png", "", "nowhere"]), min_size=1, max_size=6))
    def test_a_path_is_where_a_confined_folder_without_links_has_it(self, tmp_path_factory, parts):
        root = tmp_path_factory.getbasetemp() / "twin" / "set"
        (root / "photos").mkdir(parents=True, exist_ok=True)
        (root / "photos/a.png").write_bytes(b"x")
        source, rules = BucketSource(FolderAsBucket(root)), PathRules(root, confined=True)
        path = "/".join(parts) or "."
        # A bucket's path may not even pass through the outside on its way back in; names keep it from doing so here.
        assert source.refusal(path) == rules.refusal(path)
        if source.refusal(path) is None:
            source.expect([path], [])
            place, reason = source.find_file(path)
            assert place.removeprefix(str(mirror_folder(URI))) == rules.locate(path).removeprefix(str(root.resolve()))
            assert (reason is None) == Path(rules.locate(path)).is_file()


class TestLooking:
    def test_few_files_are_asked_for_one_by_one(self, bucket, put, describe_set):
        describe_set(*({"stylized": {"path": f"{k}.png", "filename": f"{k}.png"}} for k in range(3)))
        put("0.png", "stylized/1.png", *(f"output/{k}.png" for k in range(50)))
        found = resolve_jobs(load())
        assert [(job.index, job.image.name) for job in found.jobs] == [(0, "0.png"), (1, "1.png")]
        assert [one.reason for one in found.skipped] == [
            'path "2.png": it does not exist; filename "stylized/2.png": it does not exist'
        ]
        assert bucket.listed == []
        assert len(bucket.asked) == 1 + 6

    def test_only_what_is_selected_is_asked_for(self, bucket, put, describe_set):
        describe_set(*({"stylized": {"path": f"photos/{k}.png"}} for k in range(1000)))
        put("photos/7.png")
        found = resolve_jobs(load(), IndexSelection.parse(["7"]))
        assert len(found.jobs) == 1
        assert bucket.asked == ["metadata.json", "photos/7.png"]
        assert bucket.listed == []

    def test_of_many_files_the_folders_are_listed(self, bucket, put, describe_set):
        count = SINGLE_FILES + 1
        describe_set(*({"photorealistic": {"path": f"photos/{k % 2}/{k}.png"}} for k in range(count)))
        put(*(f"photos/{k % 2}/{k}.png" for k in range(1, count)), "output/x", "photos/2/x")
        found = resolve_jobs(load())
        assert len(found.jobs) == count - 1
        assert [one.reason for one in found.skipped] == ['path "photos/0/0.png": it does not exist']
        assert bucket.listed == ["photos/0", "photos/1"]
        assert bucket.asked == ["metadata.json"]

    def test_of_very_many_folders_the_one_above(self, bucket, put, describe_set):
        describe_set(*({"photorealistic": {"path": f"scenes/{k}/photo.png"}} for k in range(SINGLE_FILES + 1)))
        put(*(f"scenes/{k}/photo.png" for k in range(SINGLE_FILES + 1)), "output/x")
        assert len(resolve_jobs(load()).jobs) == SINGLE_FILES + 1
        assert bucket.listed == ["scenes"]

    def test_fallback_images_are_listed_once(self, bucket, put, describe_set):
        describe_set(*({} for _ in range(40)))
        put(*(f"images/{k}.png" for k in range(39)), "images/index_0039.JPG", "images/deep/3.png", "images/4.txt")
        found = resolve_jobs(load())
        assert len(found.jobs) == 40 and found.warnings == ()
        assert bucket.listed == ["images"]

    def test_folders_are_where_something_lies(self, bucket, put, describe_set):
        describe_set(
            {"scaffold": {"scaffold_path": "made/a"}},
            {"scaffold": {"scaffold_path": "made/b"}},
            {"scaffold": {"scaffold_path": "made/c.png"}},
        )
        put("made/a/final/000.png", "made/c.png", "made/bb/000.png")
        found = resolve_jobs(load())
        assert [job.index for job in found.jobs] == [0]
        assert [one.reason for one in found.skipped] == [
            'scaffold_path "made/b": it does not exist',
            'scaffold_path "made/c.png": it does not exist',
        ]

    @pytest.mark.parametrize(
        ("key", "reason"),
        [
            ("n" * 256 + ".png", "its name is too long for a file"),
            ("n" * 256 + "/a.png", "its name is too long for a file"),
            ("é" * 120 + ".png", None),
        ],
    )
    def test_a_name_that_no_file_can_have(self, scratch, key, reason):
        source = BucketSource(ObjectsInMemory({key}))
        source.expect([key], [])
        assert source.find_file(key)[1] == reason

    @pytest.mark.parametrize("folders_too", [False, True])
    def test_names_that_no_object_can_have_are_not_asked_for(self, scratch, folders_too):
        """The service takes a name of more than 1,024 bytes, the prefix included, for a mistake of the program."""
        objects = ObjectsInMemory(set())
        longest = 1024 - len("curated/")
        keys = ["n" * longest, "n" * (longest + 1), "é" * 600, ""]
        source = BucketSource(objects)
        source.expect(keys, keys[1:3] if folders_too else [])
        assert objects.asked == ["n" * longest]
        assert [source.find_file(key)[1] for key in keys] == ["it does not exist"] * 4

    @given(st.sets(st.text("ab/", max_size=5).map(lambda text: "/".join(filter(None, text.split("/")))), max_size=12))
    @example({"", "a"})
    def test_merged_folders_hold_all_and_overlap_nowhere(self, folders):
        found = merged(set(folders))
        ancestors = [{*PurePosixPath("/", one).parents, PurePosixPath("/", one)} for one in folders]
        kept = [PurePosixPath("/", one) for one in found]
        assert all(len(line.intersection(kept)) == 1 for line in ancestors)
        assert set(found) <= folders

    @settings(max_examples=25)
    @given(st.sets(st.tuples(*[st.integers(0, 6)] * 3), min_size=FOLDERS_LISTED - 2, max_size=FOLDERS_LISTED + 20))
    def test_very_many_folders_become_few(self, places):
        folders = {"/".join(map(str, place)) for place in places}
        found = merged(folders)
        assert len(found) <= FOLDERS_LISTED
        assert all(any(f"{folder}/".startswith(f"{one}/") or not one for one in found) for folder in folders)
        if len(folders) <= FOLDERS_LISTED:
            assert found == sorted(folders)

    @given(
        st.sets(st.sampled_from(["a", "b/c", "b/d", "b/e/f", "g/h"])),
        st.sampled_from([0, 2, 99]),
        st.lists(st.sampled_from(["", "a", "b/c", "b/x", "b/e/f", "g/h", "g", "x/y"]), max_size=8),
        st.lists(st.sampled_from(["", "b", "b/e", "g", "x"]), max_size=3),
    )
    def test_answers_do_not_depend_on_how_they_are_found(self, there, singles, files, folders):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("worldexplorer.dataset.listing.SINGLE_FILES", singles)
            listing = Listing(ObjectsInMemory(there))
            listing.expect(files, folders)
        assert [listing.has_file(key) for key in files] == [key in there for key in files]
        for folder in folders:
            inside = [key for key in there if not folder or key.startswith(f"{folder}/")]
            assert listing.has_folder(folder) == bool(inside)
            direct = {key.removeprefix(f"{folder}/") for key in inside}
            assert set(listing.names(folder)) == {name for name in direct if "/" not in name}


VIEWS = [f"{view:03d}.png" for view in range(8)]


def bring(indices=None):
    dataset = load()
    selection = None if indices is None else IndexSelection.parse(indices)
    return dataset.fetch(resolve_jobs(dataset, selection).jobs)


def in_mirror(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {".lock"}


class TestFetching:
    def test_what_the_jobs_start_from_and_nothing_else(self, bucket, put, describe_set):
        describe_set(
            {"photorealistic": {"path": "photos/a.png"}, "stylized": {"path": "photos/a.png"}},
            {"stylized": {"path": "photos/b.png", "scaffold_path": "made/b"}},
            {"stylized": {"path": "photos/c.png"}},
        )
        put("photos/a.png", "photos/b.png", "photos/c.png", "photos/d.png", "made/x.png", "made/b/notes.txt")
        put(*(f"made/b/{name}" for name in VIEWS))
        jobs = bring(["0-1"])
        assert [job.image.read_bytes() for job in jobs] == [b"photos/a.png", b"photos/a.png", b"photos/b.png"]
        assert [path.name for path in provided_files(jobs[2].scaffold_path)] == VIEWS
        wanted = ["photos/a.png", "photos/b.png", *(f"made/b/{name}" for name in VIEWS)]
        assert bucket.fetched == wanted
        assert in_mirror(mirror_folder(URI)) == set(wanted)
        assert bucket.calls["local_copies"] == 1

    def test_what_was_brought_is_not_brought_again(self, bucket, put, describe_set):
        describe_set({"photorealistic": {"path": "a.png"}}, {"photorealistic": {"path": "b.png"}})
        put("a.png", "b.png")
        dataset = load()
        jobs = resolve_jobs(dataset).jobs
        dataset.fetch(jobs[:1])
        dataset.fetch(jobs)
        assert bucket.fetched == ["a.png", "b.png"]

    @pytest.mark.parametrize(
        ("fault", "message"),
        [
            (
                NotFoundError("no such object"),
                f"in the data set any more ({URI}/b.png). What to do: put it back, or name another in metadata.json",
            ),
            (
                UserError("access is refused", where="elsewhere", remedy="ask for it"),
                f"the file cannot be read: access is refused ({URI}/b.png). What to do: ask for it",
            ),
        ],
        ids=["gone", "forbidden"],
    )
    def test_a_file_that_cannot_be_had_is_its_jobs_fault(self, bucket, put, describe_set, fault, message):
        describe_set(*({"photorealistic": {"path": f"{name}.png"}} for name in "abc"))
        put("a.png", "b.png", "c.png")
        bucket.faults["b.png"] = fault
        jobs = bring()
        assert [job.unfetched is None for job in jobs] == [True, False, True]
        assert str(jobs[1].unfetched).endswith(message)
        assert [job.image.exists() for job in jobs] == [True, False, True]

    def test_a_view_that_cannot_be_had_is_its_jobs_fault(self, bucket, put, describe_set):
        describe_set({"stylized": {"scaffold_path": "made"}}, {"stylized": {"path": "a.png"}})
        put("a.png", *(f"made/{name}" for name in VIEWS))
        bucket.faults["made/003.png"] = NotFoundError("no such object")
        jobs = bring()
        assert [job.unfetched.where if job.unfetched else None for job in jobs] == [f"{URI}/made/003.png", None]

    def test_a_bucket_that_does_not_answer_is_nobodys_fault(self, bucket, put, describe_set):
        describe_set({"photorealistic": {"path": "a.png"}})
        put("a.png")
        bucket.faults["a.png"] = TransientError("no answer")
        with pytest.raises(TransientError):
            bring()

    def test_a_failure_does_not_bring_everything_twice(self, bucket, put, describe_set):
        describe_set(*({"photorealistic": {"path": f"{k}.png"}} for k in range(600)))
        put(*(f"{k}.png" for k in range(600)))
        dataset = load()
        jobs = resolve_jobs(dataset).jobs
        bucket.faults["300.png"] = NotFoundError("no such object")
        assert [job.index for job in dataset.fetch(jobs) if job.unfetched] == [300]
        assert Counter(bucket.fetched) == Counter(f"{k}.png" for k in range(600) if k != 300)

    def test_a_file_and_a_folder_of_one_name_are_told_apart(self, bucket, describe_set, put, monkeypatch):
        describe_set({"stylized": {"path": "a"}}, {"stylized": {"path": "a/b.png"}}, {"stylized": {"path": "c.png"}})
        monkeypatch.setattr(bucket, "stat", lambda key: ObjectInfo(key, 9, 0.0))
        put("a/b.png", "c.png")
        jobs = bring()
        assert [job.unfetched.where if job.unfetched else None for job in jobs] == [f"{URI}/a", None, None]
        assert bucket.fetched == ["a/b.png", "c.png"]

    @settings(max_examples=40)
    @given(
        st.sets(
            st.sampled_from(["scaffold.json", "final/scaffold.json", "../scaffold.json", "008.PNG", "003.jpg", "x.png"])
        ),
        st.sets(st.sampled_from(["final/000.png", "final/deep/x", "final/notes", "final/003.webp"])),
        st.sampled_from([[], VIEWS, VIEWS[1:], [f"final/{name}" for name in VIEWS]]),
    )
    def test_a_scaffold_reads_alike_here_and_there(self, tmp_path_factory, above, inside, views):
        """Its files in the mirror are those that the same folder on a disk would give; so are the complaints."""
        tree = tmp_path_factory.mktemp("tree")
        for name in {*above, *inside, *views, "keep.txt"}:
            path = tree / "made" / "here" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x")
        source = BucketSource(FolderAsBucket(tree, uri=f"gs://sets/{tree.name}"))
        source.expect([], ["made/here"])
        place, reason = source.find_folder("made/here")
        assert reason is None
        (job,) = source.fetch([a_job(scaffold_path=Path(place))])
        assert job.unfetched is None
        assert self.read(Path(place)) == self.read(tree / "made" / "here")

    def read(self, folder):
        try:
            return [path.relative_to(folder.parent).as_posix() for path in provided_files(folder)]
        except UserError as error:
            return str(error).replace(str(folder), "")

    def test_the_data_set_itself_may_be_a_scaffold(self, bucket, put, describe_set):
        describe_set({"scaffold": {"scaffold_path": "."}})
        put("scaffold.json", *(f"final/{name}" for name in VIEWS))
        (job,) = bring()
        folder = mirror_folder(URI)
        assert provided_files(job.scaffold_path) == [
            *(folder / "final" / name for name in VIEWS),
            folder / "scaffold.json",
        ]


def a_job(**changes):
    job = Job(
        index=7,
        variant="stylized",
        image=None,
        scaffold_path=None,
        scene_type="outdoor",
        category="temple",
        theme=None,
        scaffold=ScaffoldOverrides("fast", True, ("n", "w", "s", "e")),
        expansion=ExpansionOverrides(4.0, ("spiral", "in"), 9),
    )
    return replace(job, **changes)


class TestHandover:
    def test_a_job_is_restored_and_supplied_elsewhere(self, bucket, put, describe_set, scratch, monkeypatch):
        describe_set(
            {"photorealistic": {"path": "./photos//a.png"}, "scene_type": "indoor"},
            {"stylized": {"scaffold_path": "made/"}},
        )
        put("photos/a.png", "scaffold.json", *(f"made/{name}" for name in VIEWS))
        dataset = load()
        jobs = resolve_jobs(dataset).jobs
        descriptions = json.loads(json.dumps([describe_job(job, dataset) for job in jobs]))
        assert descriptions == [
            {"index": 0, "variant": "photorealistic", "image": "photos/a.png", "scene_type": "indoor"},
            {"index": 1, "variant": "stylized", "scaffold_path": "made"},
        ]
        here = mirror_folder(URI)
        monkeypatch.setattr(remote, "_mirrors", {})  # another machine
        first, second = (restore_job(description, URI) for description in descriptions)
        there = mirror_folder(URI)
        assert there != here
        assert first == replace(jobs[0], image=there / "photos/a.png")
        assert second == replace(jobs[1], scaffold_path=there / "made")
        assert in_mirror(there) == set()
        bucket.asked.clear()
        bucket.listed.clear()
        fetch_job(URI, first)
        assert (bucket.asked, bucket.listed) == ([], [])
        assert first.image.read_bytes() == b"photos/a.png"
        fetch_job(URI, second)
        assert provided_files(second.scaffold_path) == [
            *(there / "made" / name for name in VIEWS),
            there / "scaffold.json",
        ]

    def test_all_that_a_job_knows_comes_along(self, bucket):
        place = mirror_folder(URI)
        for job in (a_job(image=place / "a.png"), a_job(scaffold_path=place / "s", theme="x", scene_type=None)):
            description = describe_job(job, dataset_in(BucketSource(bucket)))
            assert restore_job(json.loads(json.dumps(description)), URI) == job

    def test_a_file_that_is_gone_fails_its_job(self, bucket, put):
        job = restore_job({"index": 0, "variant": "default", "image": "a.png"}, URI)
        with pytest.raises(UserError, match=rf"not in the data set any more \({URI}/a\.png\)"):
            fetch_job(URI, job)

    @pytest.mark.parametrize("confined", [False, True])
    def test_a_folders_jobs_keep_their_paths(self, tmp_path, monkeypatch, confined):
        for name in ("set/photos/a.png", "set/made/000.png", "else/b.png"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(b"x")
        (tmp_path / "alias").symlink_to("set")
        monkeypatch.chdir(tmp_path)
        paths = ["photos/a.png"] if confined else ["photos/a.png", "../else/b.png", str(tmp_path / "else/b.png")]
        samples = [{"index": k, "stylized": {"path": path, "scaffold_path": "made"}} for k, path in enumerate(paths)]
        (tmp_path / "set/metadata.json").write_text(json.dumps({"samples": samples}))
        for folder in ("set", "./set/", Path("alias"), tmp_path / "alias"):
            dataset = load_dataset(folder, confine_paths=confined)
            for job, path in zip(resolve_jobs(dataset).jobs, paths, strict=True):
                description = describe_job(job, dataset)
                assert (description["image"], description["scaffold_path"]) == (path, "made")
                assert restore_job(description, folder, confine_paths=confined) == job
                fetch_job(str(folder), job)

    @pytest.mark.parametrize("dataset_dir", ["folder", URI])
    @pytest.mark.parametrize("key", ["image", "scaffold_path"])
    @pytest.mark.parametrize(
        ("path", "reason"),
        [
            ("../x", "leads out of the data set"),
            ("/etc/passwd", "leads out of the data set"),
            ("gs://sets/other/x", "is a URL, and only files of the data set may be named"),
        ],
    )
    def test_paths_are_confined_once_more(self, bucket, tmp_path, dataset_dir, key, path, reason):
        where = str(tmp_path) if dataset_dir == "folder" else URI
        with pytest.raises(UsageError) as caught:
            restore_job({"index": 0, "variant": "default", key: path}, where)
        assert str(caught.value).startswith(f"{key} {reason}: {json.dumps(path)} ({where})")

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"index": -1}, "index: Input should be greater than or equal to 0"),
            ({"index": "0"}, "index: Input should be a valid integer"),
            ({"variant": "../x"}, "variant: Input should be 'photorealistic', 'stylized' or 'default'"),
            ({"image": ""}, "image: String should have at least 1 character"),
            ({"image": None}, "names nothing to start from"),
            ({"scaffold": {"prompts": ["a"]}}, "scaffold.prompts: List should have at least 4 items"),
            ({"expansion": {"translation_scaling_factor": 0}}, "translation_scaling_factor: Input should be greater"),
            (
                {"expansion": {"trajectory_order": ["in", "in"]}},
                "expansion.trajectory_order: some of the trajectories in,",
            ),
            ({"expansion": {"trajectory_order": 3}}, "expansion.trajectory_order: Input should be a valid list"),
            ({"more": 1}, "more: Extra inputs are not permitted"),
        ],
    )
    def test_what_is_no_description_is_refused(self, tmp_path, changes, message):
        description = {"index": 0, "variant": "default", "image": "a.png"}
        assert restore_job(description, tmp_path).image == tmp_path / "a.png"
        with pytest.raises(DefectError) as caught:
            restore_job(description | changes, tmp_path)
        assert message in str(caught.value)


def write_trajectory(folder):
    """A trajectory of two frames, straight ahead."""
    frames = []
    for number in range(10):
        angle = np.radians(45 * number) if number < 8 else 0.0
        matrix = [
            [np.cos(angle), 0.0, np.sin(angle), 0.0],
            [0.0, 1.0, 0.0, 0.0],
            [-np.sin(angle), 0.0, np.cos(angle), -float(max(number - 8, 0))],
            [0.0, 0.0, 0.0, 1.0],
        ]
        frames.append({"file_path": f"./{number:03d}.png", "transform_matrix": matrix})
    folder.mkdir(parents=True)
    (folder / "transforms.json").write_text(json.dumps({"frames": frames}))


def dataset_in(source):
    return Dataset((), (), source, {})


class TestMirror:
    def test_one_a_folder_and_process(self, scratch):
        assert mirror_folder(URI) == mirror_folder(URI)
        assert mirror_folder(URI) != mirror_folder(f"{URI}2")
        assert len(list(scratch.iterdir())) == 2

    def test_it_goes_with_its_process_and_a_killed_ones_with_the_next(self, scratch):
        program = (
            "import os, sys; from worldexplorer.dataset.remote import mirror_folder\n"
            "folder = mirror_folder('gs://sets/one'); folder.mkdir(parents=True)\n"
            "(folder / 'a.png').write_text('x'); print(folder, flush=True)\n"
            "sys.argv[1:] and os._exit(1)"
        )
        ours = mirror_folder(URI)
        ours.mkdir(parents=True)
        killed, ended = (
            Path(subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True).stdout.strip())
            for words in (["die"], [])
        )
        assert killed.parts[-2:] == ended.parts[-2:] == ("sets", "one")
        assert [path.name for path in scratch.iterdir()] == [ours.parts[-3]]
        assert ours.exists()

    def test_a_forked_process_leaves_it_alone(self, scratch):
        folder = mirror_folder(URI)
        child = os.fork()
        if child == 0:
            remote._remove(folder.parents[1], os.getppid())
            os._exit(0 if folder.parents[1].exists() else 1)
        assert os.waitpid(child, 0)[1] == 0


class TestBatch:
    @pytest.fixture
    def run(self, tmp_path):
        return RunConfig(
            BatchConfig(dataset_dir=URI, output_base=str(tmp_path / "out"), engine="preview"),
        )

    def test_a_batch_is_planned_from_a_bucket(self, bucket, put, describe_set, run, tmp_path):
        describe_set(*({"photorealistic": {"path": f"photos/{k}.png"}} for k in range(3)))
        picture(0, 96, 72).save(tmp_path / "0.png")
        put("photos/0.png", "photos/2.png", content=(tmp_path / "0.png").read_bytes())
        put("photos/1.png", content=(tmp_path / "0.png").read_bytes()[:20])
        plan = prepare_batch(run, small_engine).plan
        assert [bool(one.problem) for one in plan.jobs] == [False, True, False]
        assert "sets/curated/photos/1.png" in plan.jobs[1].problem
        assert plan.file.dataset_dir == URI
        assert bucket.calls["local_copies"] == 1

    def test_a_data_set_that_is_not_there(self, bucket, run):
        with pytest.raises(UsageError, match=f"Dataset directory not found: it does not exist \\({URI}\\)"):
            prepare_batch(run, small_engine)


class TestOwnTrajectories:
    @pytest.fixture
    def root(self):
        own_paths._fetched.cache_clear()
        yield
        own_paths._fetched.cache_clear()

    def test_they_read_as_from_a_folder(self, root, bucket, put, tmp_path):
        write_trajectory(tmp_path / "bucket" / "zigzag")
        write_trajectory(tmp_path / "bucket" / "in")
        put("notes.txt", "zigzag/000.png", ".hidden/transforms.json", "zigzag/deep/transforms.json")
        folder = trajectories_folder(URI)
        assert folder == mirror_folder(URI)
        assert list(load_trajectories(folder)) == list(load_trajectories(tmp_path / "bucket")) == ["in", "zigzag"]
        assert bucket.fetched == ["in/transforms.json", "zigzag/transforms.json"]
        assert trajectories_folder(URI) == folder
        assert bucket.listed == [""]

    def test_a_folder_is_itself(self, root, tmp_path):
        assert trajectories_folder(str(tmp_path)) == tmp_path

    def test_nothing_there(self, root, bucket):
        with pytest.raises(UserError, match=rf"the folder of own trajectories does not exist \({URI}\)"):
            trajectories_folder(URI)

    def test_a_folder_without_its_file(self, root, bucket, put):
        put("spiral/000.png")
        with pytest.raises(UserError, match=r"sets/curated/spiral/transforms\.json"):
            load_trajectories(trajectories_folder(URI))

    def test_a_trajectory_that_goes_meanwhile(self, root, bucket, put):
        put("spiral/transforms.json")
        bucket.faults["spiral/transforms.json"] = NotFoundError("no such object", where=f"{URI}/x")
        with pytest.raises(UserError, match=f"a trajectory was removed while it was read \\({URI}/x\\)"):
            trajectories_folder(URI)

    def test_another_kind_of_place(self, root):
        with pytest.raises(
            UsageError, match="own trajectories cannot be opened: it is neither a folder nor in a bucket"
        ):
            trajectories_folder("s3://sets/curated")
