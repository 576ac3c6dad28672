# shellcheck shell=bash
# The corpora that benches adapt to, split into files that are held out and files that are indexed. Read, not run.

# Every third of the files long enough is held out, every other file of the list is indexed: FOLDER/NAME.held and
# FOLDER/NAME.indexed, a path a line.
split_files() { # LIST_OF_LONG LIST_OF_ALL FOLDER NAME
  awk 'NR % 3 == 2' "$1" >"$3/$4.held"
  grep -vxFf "$3/$4.held" "$2" >"$3/$4.indexed"
}

# Python's standard library as FOLDER/stdlib.
python_library() { # FOLDER
  local library out=$1
  library=$(/usr/bin/python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')
  library_files "$library" 9000 >"$out/long"
  library_files "$library" 4000 >"$out/all"
  split_files "$out/long" "$out/all" "$out" stdlib
}

# Linux's prose documentation (Debian's linux-doc-6.1) as FOLDER/linux-doc.
linux_documentation() { # FOLDER
  local from=/usr/share/doc/linux-doc-6.1/Documentation out=$1 file
  local to=$out/linux-doc
  mkdir -p "$to"
  while read -r file; do
    gzip -dc "$file" >"$to/$(sed "s|^$from/||; s|/|-|g; s|\.gz$||" <<<"$file")"
  done < <(find $from -name '*.rst.gz' \( -path '*/admin-guide/*' -o -path '*/process/*' -o -path '*/filesystems/*' \
    -o -path '*/networking/*' -o -path '*/core-api/*' -o -path '*/driver-api/*' -o -path '*/userspace-api/*' \) | LC_ALL=C sort)
  find "$to" -type f -size +8000c | LC_ALL=C sort >"$out/long"
  find "$to" -type f | LC_ALL=C sort >"$out/all"
  split_files "$out/long" "$out/all" "$out" linux-doc
}
