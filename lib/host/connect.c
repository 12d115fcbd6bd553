/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The connection: socket, mode, BAR0, PCI command register. Not for the
 * controller behind it: that is ctrl.c.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <linux/pci_regs.h>

#include "internal.h"

#define DEFAULT_TIMEOUT_MS 5000

/*
 * Map the area with the first doorbell. An area that we cannot use is no error:
 * doorbells can be rung by messages as well.
 */
static void
map_doorbells(struct belfry_host *h, const struct vuc_region *bar)
{
	for (unsigned i = 0; i < bar->nareas; i++) {
		uint64_t off = bar->area[i].off, len = bar->area[i].len,
			 fd_off = bar->area[i].fd_off;
		struct stat st;
		void *p;

		if (off > REG_DOORBELLS || off + len <= REG_DOORBELLS)
			continue;
		if ((off | len | fd_off) % NVME_PAGE ||
		    fstat(bar->area[i].fd, &st) || st.st_size < 0 ||
		    !range_inside(fd_off, len, (uint64_t)st.st_size))
			return; /* touching it could be our end */
		p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED,
			 bar->area[i].fd, (off_t)fd_off);
		if (p == MAP_FAILED)
			return;
		h->db_map = p;
		h->db_off = off;
		h->db_len = len;
		return;
	}
}

static int
open_bar0(struct belfry_host *h)
{
	struct vuc_region bar;
	int err = vuc_region_info(h->vuc, VFIO_PCI_BAR0_REGION_INDEX, &bar);

	if (err)
		return err;
	h->bar0_len = bar.len;
	if (bar.len < REG_DOORBELLS + 8)
		err = -EPROTO;
	else if (!h->opts.no_map_doorbells)
		map_doorbells(h, &bar);
	vuc_region_release(&bar);
	return err;
}

/* iommufd mode: one address space of our own, and the device looks at it. */
static int
open_ioas(struct belfry_host *h)
{
	uint32_t devid;
	int err = vuc_bind(h->vuc, &devid);

	if (!err)
		err = vuc_ioas_alloc(h->vuc, &h->ioas_id);
	if (!err)
		err = vuc_attach_pt(h->vuc, h->ioas_id);
	return err;
}

int
pci_enable(struct belfry_host *h)
{
	uint16_t cmd;
	int err = belfry_config_read(h, PCI_COMMAND, &cmd, sizeof(cmd));

	if (err)
		return err;
	cmd |= PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
	return belfry_config_write(h, PCI_COMMAND, &cmd, sizeof(cmd));
}

static int
set_up(struct belfry_host *h)
{
	struct vu_device_info info;
	int err = vuc_device_info(h->vuc, &info);

	if (err)
		return err;
	if (!(info.flags & VFIO_DEVICE_FLAGS_PCI) ||
	    info.num_regions <= VFIO_PCI_CONFIG_REGION_INDEX)
		return -ENODEV; /* no PCI device */
	if (vuc_iommufd(h->vuc))
		err = open_ioas(h);
	if (!err)
		err = open_bar0(h);
	if (!err)
		err = pci_enable(h);
	if (!err)
		err = belfry_reg_read(h, REG_CAP, &h->cap, sizeof(h->cap));
	return err;
}

static enum vuc_want
want_of(enum belfry_mode mode)
{
	return mode == BELFRY_LEGACY ? VUC_LEGACY
	       : mode == BELFRY_AUTO ? VUC_EITHER
				     : VUC_IOMMUFD;
}

/* @opts may be of an older or a newer program. */
static struct belfry_opts
take_opts(const struct belfry_opts *opts)
{
	struct belfry_opts o = { 0 };

	if (opts)
		memcpy(&o, opts, MIN(opts->size, sizeof(o)));
	if (!o.timeout_ms)
		o.timeout_ms = DEFAULT_TIMEOUT_MS;
	return o;
}

/* Takes @fd; < 0: connect to @path. */
static int
host_open(const char *path, int fd, const struct belfry_opts *opts,
	  struct belfry_host **out)
{
	struct belfry_host *h = calloc(1, sizeof(*h));
	enum vuc_want want;
	int err;

	if (!h) {
		if (fd >= 0)
			close(fd);
		return -ENOMEM;
	}
	list_init(&h->mems);
	list_init(&h->qpairs);
	h->next_iova = 1ull << 32;
	h->opts = take_opts(opts);
	want = want_of(h->opts.mode);
	if (fd >= 0)
		err = vuc_attach(fd, want, h->opts.timeout_ms, &h->vuc);
	else
		err = vuc_connect(path, want, h->opts.timeout_ms, &h->vuc);
	if (err)
		goto free_host;
	h->mode = vuc_iommufd(h->vuc) ? BELFRY_IOMMUFD : BELFRY_LEGACY;
	err = set_up(h);
	if (err)
		goto disconnect;
	*out = h;
	return 0;
disconnect:
	belfry_disconnect(h);
	return err;
free_host:
	free(h);
	return err;
}

int
belfry_connect(const char *path, const struct belfry_opts *opts,
	       struct belfry_host **out)
{
	return host_open(path, -1, opts, out);
}

int
belfry_connect_fd(int fd, const struct belfry_opts *opts,
		  struct belfry_host **out)
{
	return fd < 0 ? -EBADF : host_open(NULL, fd, opts, out);
}

void
belfry_disconnect(struct belfry_host *h)
{
	if (!h)
		return;
	/* The server drops its mappings when the socket goes; no messages needed. */
	vuc_close(h->vuc);
	while (!list_empty(&h->qpairs))
		qpair_free(list_first(&h->qpairs, struct belfry_qpair, node));
	if (h->admin)
		qpair_free(h->admin);
	mem_release_all(h);
	if (h->db_map)
		munmap(h->db_map, h->db_len);
	free(h);
}

enum belfry_mode
belfry_mode_of(const struct belfry_host *h)
{
	return h->mode;
}

int
belfry_socket(const struct belfry_host *h)
{
	return vuc_fd(h->vuc);
}

int
belfry_reg_read(struct belfry_host *h, uint64_t off, void *buf, uint32_t len)
{
	return vuc_region_read(h->vuc, VFIO_PCI_BAR0_REGION_INDEX, off, buf,
			       len);
}

int
belfry_reg_write(struct belfry_host *h, uint64_t off, const void *buf,
		 uint32_t len)
{
	return vuc_region_write(h->vuc, VFIO_PCI_BAR0_REGION_INDEX, off, buf,
				len);
}

int
belfry_config_read(struct belfry_host *h, uint64_t off, void *buf, uint32_t len)
{
	return vuc_region_read(h->vuc, VFIO_PCI_CONFIG_REGION_INDEX, off, buf,
			       len);
}

int
belfry_config_write(struct belfry_host *h, uint64_t off, const void *buf,
		    uint32_t len)
{
	return vuc_region_write(h->vuc, VFIO_PCI_CONFIG_REGION_INDEX, off, buf,
				len);
}
