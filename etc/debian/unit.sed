# From etc/goodwe.service the package's unit: without its first words, which are about /opt.
/^\[Unit\]/,$!d
s|^\(Exec[A-Za-z]*\)=/opt/goodweusblogger/GoodWe.py|\1=/usr/sbin/GoodWe.py|
s|^Documentation=.*|Documentation=file:///usr/share/doc/goodwe-usb-logger/README.md|
