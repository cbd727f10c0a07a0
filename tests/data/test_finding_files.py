"""Image files are found and read where they lie, and one tree is the same in whatever it is packed."""

import shutil
import tarfile
import zipfile

import pytest
from image_tree import jpeg, make_tree, tar_of, tars_of_classes, write, zip_of

from kind.data.files import find_images, read_bytes, stamp_of
from kind.errors import UserError
from kind.images import BadImage

COUNTS = {"10": 2, "2": 3, "été": 1}


@pytest.fixture
def tree(tmp_path):
    return make_tree(tmp_path / "tree", COUNTS)


def contents(path):
    found = find_images(path).items
    assert [item.key for item in found] == sorted(item.key for item in found)
    return {item.key: read_bytes(item) for item in found}


def expected(tree):
    return {file.relative_to(tree).as_posix(): file.read_bytes() for file in tree.rglob("*.JPEG")}


def test_a_folder_gives_its_files(tree):
    assert contents(tree) == expected(tree) and len(expected(tree)) == 6


def test_tars_in_a_tar_need_no_end_of_their_own(tree, tmp_path):
    """Some programs leave the two empty blocks out; the next header is the outer tar's."""
    tars = tars_of_classes(tree, tmp_path / "tars")
    for path in tars.iterdir():
        content = path.read_bytes().rstrip(b"\0")
        path.write_bytes(content + b"\0" * (-len(content) % 512))
    assert contents(tar_of(tars, tmp_path / "a.tar")) == expected(tree)


@pytest.mark.parametrize("form", ["tar", "zip", "stored zip", "folder of tars", "tar of tars", "folder of zips"])
def test_an_archive_of_a_tree_is_the_tree(tree, tmp_path, form):
    if form == "tar":
        packed = tar_of(tree, tmp_path / "a.tar")
    elif form == "zip":
        packed = zip_of(tree, tmp_path / "a.zip")
    elif form == "stored zip":
        packed = zip_of(tree, tmp_path / "a.zip", zipfile.ZIP_STORED)
    elif form == "folder of tars":
        packed = tars_of_classes(tree, tmp_path / "tars")
    elif form == "tar of tars":
        packed = tar_of(tars_of_classes(tree, tmp_path / "tars"), tmp_path / "a.tar")
    else:
        packed = tmp_path / "zips"
        packed.mkdir()
        for one in tree.iterdir():
            zip_of(one, packed / f"{one.name}.zip")
    wanted = expected(tree)
    shutil.rmtree(tree)
    assert contents(packed) == wanted


def test_what_is_no_image_is_counted_and_what_is_hidden_is_not_seen(tree, tmp_path):
    write(tree / "2" / "notes.txt", b"x")
    write(tree / "labels.csv", b"x")
    write(tree / "old.gz", b"x")
    write(tree / "2" / "._2_0.JPEG", b"x")
    write(tree / "__MACOSX" / "2" / "2_0.JPEG", b"x")
    write(tree / ".cache" / "a.png", b"x")
    for path in (tree, tar_of(tree, tmp_path / "a.tar"), zip_of(tree, tmp_path / "a.zip")):
        found = find_images(path)
        assert (len(found.items), found.num_others) == (6, 3), path


def test_links_are_followed_but_not_in_circles(tree, tmp_path):
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "2").symlink_to(tree / "2")
    (tmp_path / "links" / "again").symlink_to(tmp_path / "links")
    assert list(contents(tmp_path / "links")) == ["2/2_0.JPEG", "2/2_1.JPEG", "2/2_2.JPEG"]


def test_hard_links_in_a_tar_are_refused_by_name(tree, tmp_path):
    """The tar holds the bytes once; a folder and a zip hold them under both names."""
    (tree / "2" / "twin.JPEG").hardlink_to(tree / "10" / "10_0.JPEG")
    packed = tar_of(tree, tmp_path / "a.tar")
    with pytest.raises(UserError, match=r"a.tar: \./(\S+) is a hard link to \./?(\S+), which is not read\n.*--hard-d"):
        find_images(packed)
    assert contents(zip_of(tree, tmp_path / "a.zip")) == contents(tree) == expected(tree)


def test_an_archive_beside_its_own_folder_is_refused(tree):
    tar_of(tree / "2", tree / "2.tar")
    with pytest.raises(UserError, match=r"'2/2_0.JPEG' is there twice \(and 2 more\)"):
        find_images(tree)


def test_compressed_tars_are_refused_with_a_way_out(tree, tmp_path):
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        archive.add(tree)
    with pytest.raises(UserError, match="a.tar.gz: a compressed tar cannot be read in place\n.*uncompress it"):
        find_images(tmp_path / "a.tar.gz")
    shutil.move(tmp_path / "a.tar.gz", tree / "2" / "a.tar.gz")
    for path in (tree, tar_of(tree, tmp_path / "b.tar"), zip_of(tree, tmp_path / "b.zip")):
        with pytest.raises(UserError, match=f"{path.name}.*2/a.tar.gz: a compressed tar cannot be read in place\n"):
            find_images(path)


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5])
def test_cut_archives_are_refused(tree, tmp_path, share):
    for pack, name in ((tar_of, "a.tar"), (zip_of, "a.zip")):
        path = pack(tree, tmp_path / name)
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * share)])
        with pytest.raises(UserError, match=f"{name}: not a whole (tar|zip) archive"):
            find_images(path)


def test_damage_in_a_zip_is_found_by_its_checksum(tree, tmp_path):
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        path = zip_of(tree / "été", tmp_path / "a.zip", method)
        (item,) = find_images(path).items
        content = bytearray(path.read_bytes())
        content[item.offset + 30 + len("été_0.JPEG".encode()) + item.length // 2] ^= 1
        path.write_bytes(content)
        with pytest.raises(BadImage, match="été_0.JPEG: is damaged in .*a.zip"):
            read_bytes(item)


def test_a_file_that_went_away_is_a_bad_image(tree):
    (item, *_) = find_images(tree).items
    (tree / item.key).unlink()
    with pytest.raises(BadImage, match="cannot be read .No such file"):
        read_bytes(item)


def test_a_stamp_tells_another_file_from_the_same(tree):
    items = find_images(tree).items
    first = stamp_of(items)
    assert stamp_of(find_images(tree).items) == first
    write(tree / items[0].key, jpeg(99))
    assert stamp_of(items) != first
