#!/usr/bin/env bash
# with_servers.sh COMMAND...: runs a command where PACS are: Orthanc, plain and with mutual TLS, and dcmtk's dcmqrscp and
# storescp (with mutual TLS). They listen on all addresses and cannot be told otherwise, so they and the command get a
# network of their own that has nothing but `lo`. Exit status: that of the command; 77 where something is not installed.
set -u
for program in Orthanc dcmqrscp openssl ip unshare; do
    command -v "$program" >/dev/null || { echo "with_servers.sh: $program is not installed" >&2; exit 77; }
done
# pynetdicom installs programs of the same names, which may come first.
DCMTK=$(dirname "$(command -v dcmqrscp)")
export DCMTK
if [ -z "${PACS_INSIDE:-}" ]; then
    unshare -n true || { echo "with_servers.sh: no network namespace can be made" >&2; exit 77; }
    PACS_INSIDE=1 exec unshare -n -- "$0" "$@"
fi
ip link set lo up
PACS_DIR=$(mktemp -d -t pacs.XXXXXX)
export PACS_DIR
pids=()
stop() {
    kill "${pids[@]}" 2>/dev/null
    wait "${pids[@]}" 2>/dev/null
    rm -rf "$PACS_DIR"
}
trap stop EXIT

authority() { # name of a CA
    openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj "/CN=$1" -keyout "$1.key" -out "$1.crt"
}
certificate() { # name, CA, alternative names, days
    openssl req -newkey rsa:2048 -nodes -subj "/CN=$1" -keyout "$1.key" -out "$1.csr"
    openssl x509 -req -in "$1.csr" -CA "$2.crt" -CAkey "$2.key" -CAcreateserial -days "$4" -out "$1.crt" \
        -extfile <(printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth,clientAuth' "$3")
}
(
    cd "$PACS_DIR" || exit 1
    authority ca
    authority otherca
    here=DNS:localhost,IP:127.0.0.1
    certificate server ca "$here" 2
    certificate client ca "$here" 2
    certificate stranger otherca "$here" 2
    certificate elsewhere ca DNS:elsewhere.example 2
    openssl req -newkey rsa:2048 -nodes -subj /CN=expired -keyout expired.key -out expired.csr
    openssl x509 -req -in expired.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days -1 -out expired.crt \
        -extfile <(printf 'subjectAltName=%s' "$here")
) >"$PACS_DIR/openssl.log" 2>&1

orthanc() { # folder, HTTP port, DICOM port, TLS
    local plugin
    plugin=$(ls /usr/share/orthanc/plugins/libOrthancDicomWeb.so /usr/lib/orthanc/libOrthancDicomWeb.so 2>/dev/null | head -1)
    mkdir "$PACS_DIR/$1"
    cat >"$PACS_DIR/$1.json" <<J
{ "Name": "test", "StorageDirectory": "$PACS_DIR/$1", "IndexDirectory": "$PACS_DIR/$1", "Plugins": [ ${plugin:+\"$plugin\"} ],
  "HttpPort": $2, "RemoteAccessAllowed": false, "AuthenticationEnabled": false,
  "DicomPort": $3, "DicomAet": "ORTHANC", "DicomCheckCalledAet": true,
  "DicomAlwaysAllowEcho": true, "DicomAlwaysAllowStore": true, "DicomAlwaysAllowFind": true, "DicomAlwaysAllowGet": true,
  "DicomAlwaysAllowMove": true, "UnknownSopClassAccepted": true, "OverwriteInstances": true, "SynchronousCMove": true,
  "StableAge": 1, "SaveJobs": false,
  "DicomModalities": { "imagedata": { "AET": "IMAGEDATA", "Host": "127.0.0.1", "Port": 11112, "UseDicomTls": $4 } },
  "DicomTlsEnabled": $4, "DicomTlsRemoteCertificateRequired": true, "DicomTlsCertificate": "$PACS_DIR/server.crt",
  "DicomTlsPrivateKey": "$PACS_DIR/server.key", "DicomTlsTrustedCertificates": "$PACS_DIR/ca.crt",
  "DicomWeb": { "Enable": true, "Root": "/dicom-web/", "Host": "127.0.0.1", "Ssl": false } }
J
    Orthanc "$PACS_DIR/$1.json" >"$PACS_DIR/$1.log" 2>&1 &
    pids+=($!)
}
export TCP_NODELAY=1 # of dcmtk, on which these are built
orthanc plain 18042 14242 false
orthanc tls 18043 14243 true
mkdir "$PACS_DIR/qr" "$PACS_DIR/store"
cat >"$PACS_DIR/qr.cfg" <<Q
NetworkTCPPort  = 14250
MaxPDUSize      = 16384
MaxAssociations = 16
HostTable BEGIN
imagedata = (IMAGEDATA, 127.0.0.1, 11112)
HostTable END
VendorTable BEGIN
VendorTable END
AETable BEGIN
QRSCP  $PACS_DIR/qr RW (200, 1024mb) ANY
AETable END
Q
dcmqrscp -c "$PACS_DIR/qr.cfg" >"$PACS_DIR/qr.log" 2>&1 &
pids+=($!)
"$DCMTK/storescp" -od "$PACS_DIR/store" -aet STORE +xa +tls "$PACS_DIR/server.key" "$PACS_DIR/server.crt" +cf "$PACS_DIR/ca.crt" \
    -rc 14251 >"$PACS_DIR/store.log" 2>&1 &
pids+=($!)
for port in 18042 18043 14242 14243 14250 14251; do
    for _ in $(seq 300); do
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && continue 2
        sleep 0.05
    done
    echo "with_servers.sh: nothing listens on port $port" >&2
    tail -5 "$PACS_DIR"/*.log >&2
    exit 70
done
"$@"
