"""Image formats by file content and suffix, both supported and unsupported ones."""

import re
from collections import Counter
from collections.abc import Iterable

# Bytes that suffice for each signature below; that of DICOM follows 128 arbitrary bytes.
HEAD_SIZE = 132
HEIC = "HEIC"  # read with the extra heif alone, see `segpipe.io.heif`
READ_FORMATS = frozenset({"JPEG", "PNG", "BMP", "TIFF", "WebP", HEIC})
_IMAGE = "apng bmp dib heic heics heif heifs hif jfi jfif jif jpe jpeg jpg mpo png tif tiff webp"
IMAGE_SUFFIXES = frozenset(f".{ending}" for ending in _IMAGE.split())

# The first match counts: many raw formats begin like a TIFF.
_SIGNATURES: tuple[tuple[re.Pattern[bytes], str], ...] = tuple(
    (re.compile(pattern, re.DOTALL), name)
    for pattern, name in (
        (rb"\xff\xd8\xff", "JPEG"),
        (rb"\x89PNG\r\n\x1a\n", "PNG"),
        (rb"BM.{4}\0{4}.{4}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0", "BMP"),
        (rb"(II\*\0|MM\0\*).{4}CR|.{4}ftypcrx ", "Canon raw"),
        (rb"II[*+]\0|MM\0[*+]", "TIFF"),
        (rb"RIFF.{4}WEBP", "WebP"),
        # The first brand of a file may be that of any HEIF container; the others then name the coding.
        (rb".{4}ftyp(?:.{4}){0,8}?avi[fs]", "AVIF"),
        (rb".{4}ftyp(he[iv][cmsx]|mif1|msf1)", HEIC),
        (rb"GIF8[79]a", "GIF"),
        (rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51", "JPEG 2000"),
        (rb"\0\0\0\x0cJXL \r\n\x87\n|\xff\x0a", "JPEG XL"),
        (rb"II\xbc\x01", "JPEG XR"),
        (rb"8BPS", "Photoshop"),
        (rb".{128}DICM", "DICOM"),
        (rb"FUJIFILMCCD-RAW", "Fujifilm raw"),
        (rb"IIR[OS]|MMOR", "Olympus raw"),
        (rb"IIU\0", "Panasonic raw"),
        (rb"FOVb", "Sigma raw"),
        (rb"v/1\x01", "OpenEXR"),
        (rb"gimp xcf", "GIMP"),
        (rb"#\?R(ADIANC|GB)E", "Radiance"),
        (rb"BPG\xfb", "BPG"),
        (rb"qoif", "QOI"),
        (rb"SIMPLE  = {20}T", "FITS"),
        (rb"P[1-6][ \n]\d+[ \n]\d+", "PNM"),
    )
)
_RAW = (
    "3fr arq arw bay cr2 cr3 crw dcr dng eip erf fff iiq k25 kdc mdc mef mos mrw nef nrw orf pef raf raw rw2 rwl rwz sr2 srf srw "
    "x3f"
)
UNREAD_SUFFIXES: dict[str, str] = {
    f".{ending}": name
    for name, endings in {
        "AVIF": "avif avifs",
        "GIF": "gif",
        "JPEG 2000": "jp2 j2k j2c jpc jpf jpm jpx",
        "JPEG XL": "jxl",
        "JPEG XR": "jxr hdp wdp",
        "JPEG-LS": "jls",
        "Photoshop": "psd psb",
        "DICOM": "dcm dicom",
        "camera raw": _RAW,
        "OpenEXR": "exr",
        "GIMP": "xcf",
        "PNM": "pam pbm pgm pnm ppm",
        "Targa": "tga",
        "PCX": "pcx",
        "Apple Live Photo": "livp",
        "BPG": "bpg",
        "QOI": "qoi",
    }.items()
    for ending in endings.split()
}
# Files with these suffixes are ignored without being opened.
_OTHER = (
    "7z avi bak bib bz2 c cfg ckpt cmd conf cpp crdownload css csv db dll doc docx eml env epub exe gz h h5 htm html ico ini "
    "ipynb jar java js json jsonl key lnk lock log m m4a m4v mat md mkv mov mp3 mp4 mpeg mpg nii npy npz odp ods odt onnx orig "
    "p parquet part pdf pem pickle pkl plist pps ppt pptx ps ps1 pt pth py pyc r rar rds rst rtf safetensors sh so sqlite "
    "sqlite3 svg swp tab tar tex tgz tmp toml tsv ttf txt wav webm xls xlsx xml xz yaml yml zip"
)
OTHER_SUFFIXES = frozenset(f".{ending}" for ending in _OTHER.split())


def format_of(head: bytes) -> str | None:
    """Return the name of the image format of a file.

    Args:
        head: First `HEAD_SIZE` bytes of the file, or all if it has fewer.

    Returns:
        One of `READ_FORMATS`, the name of an unsupported format, or None for other content.
    """
    return next((name for signature, name in _SIGNATURES if signature.match(head)), None)


_UNREAD = "an image of the format"


def unread_reason(name: str) -> str:
    """Explain that images of an unsupported format must be converted."""
    return f"{_UNREAD} {name}, which is not read; save it as JPEG or PNG"


def heic_reason(advice: str) -> str:
    """Explain that HEIC images cannot be read in this installation.

    Args:
        advice: Missing library, and its installation.
    """
    return f"{_UNREAD} {HEIC}, {advice}, or save it as JPEG or PNG"


def count_unread(reasons: Iterable[str]) -> Counter[str]:
    """Count the images that are not read, by format.

    Args:
        reasons: Reasons of failed files, some of them from `unread_reason` or `heic_reason`.
    """
    found = (re.match(rf"{_UNREAD} ([^,]+),", reason) for reason in reasons)
    return Counter(match[1] for match in found if match)
