#!/bin/bash
# A store with an S3 server: Ceph's monitor, one in-memory disk and radosgw, all on 127.0.0.1.
# usage: radosgw_up.sh FOLDER PORT_OF_MONITOR PORT_OF_S3    (Debian: radosgw ceph-mon ceph-osd)
# Users: testkey/testsecret, and strangerkey/strangersecret, who may see nothing of the first.
set -eu
folder=$1 monitor=127.0.0.1:$2 port=$3
mkdir -p "$folder"/{mon,osd,rgw}
cluster=$(cat /proc/sys/kernel/random/uuid)
cat > "$folder/ceph.conf" <<C
[global]
fsid = $cluster
mon host = [v1:$monitor]
mon initial members = a
public network = 127.0.0.0/8
public addr = 127.0.0.1
ms bind msgr2 = false
auth cluster required = none
auth service required = none
auth client required = none
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
mon allow pool size one = true
mon warn on pool no redundancy = false
mon max pg per osd = 1000
osd crush chooseleaf type = 0
mon data avail crit = 1
mon data avail warn = 2
run dir = $folder
admin socket = $folder/\$name.asok
pid file = $folder/\$name.pid
log file = $folder/\$name.log
setuser match path = $folder/none
rgw dns name = 127.0.0.1
[mon.a]
mon data = $folder/mon
[osd.0]
osd data = $folder/osd
osd objectstore = memstore
memstore device bytes = 4294967296
[client.rgw.a]
rgw data = $folder/rgw
rgw frontends = beast endpoint=127.0.0.1:$port
debug rgw = 1/5
rgw enable usage log = false
rgw run sync thread = false
rgw thread pool size = 32
C
export CEPH_CONF=$folder/ceph.conf
monmaptool --create --fsid "$cluster" --addv a "[v1:$monitor]" "$folder/monmap"
ceph-mon -i a --mkfs --monmap "$folder/monmap"
ceph-mon -i a
# until a client has the monitors' map, it is refused ("wrong fsid"), which is a race
for _ in $(seq 20); do timeout 20 ceph -s && break; sleep .5; done
disk=$(cat /proc/sys/kernel/random/uuid)
for _ in $(seq 20); do ceph osd new "$disk" 0 && break; sleep .5; done
ceph-osd -i 0 --mkfs --osd-uuid "$disk"
for _ in $(seq 5); do ceph-osd -i 0 && break; sleep .5; done
for _ in $(seq 80); do ceph osd stat | grep -q '1 up' && break; sleep .25; done
for user in test stranger; do
  timeout 100 radosgw-admin user create --uid=$user --display-name=$user \
    --access-key=${user}key --secret-key=${user}secret
done
radosgw -n client.rgw.a
for _ in $(seq 80); do
  python3 -c "import urllib.request as u; u.urlopen('http://127.0.0.1:$port/')" && exit 0
  sleep .25
done
exit 1
