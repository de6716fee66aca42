#!/usr/bin/env bash
# pip 26.1: one hash in a constraints file turns hash checking on for everything that is installed,
# also for what the file doesn't name, and no editable project can be installed then. A guess is that
# a constraint's hash counts for the package that it constrains.
#
# Output seen:
#   without a hash: installed
#   with a hash of iniconfig, sniffio asked for: refused, as sniffio isn't pinned with a hash
#   with a hash of iniconfig, an editable project: refused, as there is no single file to hash
#
# What follows here: constraints.txt has versions only; the hashes of what ships stand in
# requirements.txt, and the project itself is installed after it with --no-deps.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip=("$folder/venv/bin/python" -m pip --disable-pip-version-check)
"${pip[@]}" install --quiet pip==26.1
mkdir "$folder/project"
cat > "$folder/project/pyproject.toml" <<'TOML'
[build-system]
requires = ["hatchling==1.33.0"]
build-backend = "hatchling.build"
[project]
name = "example"
version = "1"
[tool.hatch.build.targets.wheel]
bypass-selection = true
TOML
cd "$folder"
"${pip[@]}" download --quiet --no-deps --dest files iniconfig==2.3.1
hash=$("${pip[@]}" hash files/iniconfig-* | tail -1)
echo "iniconfig==2.3.1" > versions.txt
echo "iniconfig==2.3.1 $hash" > hashes.txt

"${pip[@]}" install --quiet --dry-run --constraint versions.txt sniffio --editable project
echo "without a hash: installed"
if said=$("${pip[@]}" install --dry-run --constraint hashes.txt sniffio 2>&1); then exit 1; fi
grep --quiet "In --require-hashes mode" <<< "$said"
echo "with a hash of iniconfig, sniffio asked for: refused, as sniffio isn't pinned with a hash"
if said=$("${pip[@]}" install --dry-run --constraint hashes.txt --editable project 2>&1); then exit 1; fi
grep --quiet "there is no single file to hash" <<< "$said"
echo "with a hash of iniconfig, an editable project: refused, as there is no single file to hash"
