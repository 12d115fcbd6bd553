/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * sd_notify by hand: one datagram to the socket that NOTIFY_SOCKET names. Not worth a library.
 */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "belfry/log.h"

#include "belfryd.h"

void
notify(const char *state)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	size_t len;
	int fd;

	if (!path || !*path)
		return;
	len = strlen(path);
	if (len >= sizeof(addr.sun_path) ||
	    (path[0] != '/' && path[0] != '@')) {
		log_warn("NOTIFY_SOCKET %s: no address to tell", path);
		return;
	}
	memcpy(addr.sun_path, path, len);
	if (path[0] == '@') /* the abstract namespace: no NUL at its end */
		addr.sun_path[0] = '\0';
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 ||
	    sendto(fd, state, strlen(state), MSG_NOSIGNAL | MSG_DONTWAIT,
		   (struct sockaddr *)&addr,
		   (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)) <
		    0)
		log_warn("cannot notify %s: %m", path);
	if (fd >= 0)
		close(fd);
}
