/* SPDX-License-Identifier: BSD-3-Clause */
#include <sys/mman.h>

#include "common_iommufd.h"

struct iom_scene sc;

int
iom_call(unsigned cmd, const void *payload, size_t len, struct reply *r)
{
	return vu_call(sc.v.c, cmd, payload, len, NULL, 0, r);
}

uint32_t
iom_alloc(void)
{
	struct vu_ioas_id id = { sizeof(id), 0, 77, 0 };
	struct reply r;

	assert_int_equal(iom_call(VU_IOMMUFD_ALLOC_IOAS, &id, sizeof(id), &r),
			 0);
	assert_int_equal(r.len, sizeof(id));
	memcpy(&id, r.data, sizeof(id));
	assert_int_equal(id.argsz, sizeof(id));
	return id.ioas_id;
}

int
iom_by_id(unsigned cmd, uint32_t id)
{
	struct vu_ioas_id p = { sizeof(p), 0, id, 0 };

	return iom_call(cmd, &p, sizeof(p), NULL);
}

int
iom_attach(uint32_t id)
{
	struct vu_attach p = { sizeof(p), 0, id, 0 };

	return iom_call(VU_IOMMUFD_ATTACH_PT, &p, sizeof(p), NULL);
}

int
iom_detach(void)
{
	struct vu_detach p = { sizeof(p), 0, 0, 0 };

	return iom_call(VU_IOMMUFD_DETACH_PT, &p, sizeof(p), NULL);
}

int
iom_copy(uint32_t src, uint64_t iova, uint64_t len, uint32_t dst,
	 uint32_t flags, uint64_t *out)
{
	struct vu_ioas_copy p = {
		sizeof(p), flags, src, dst, iova, 0x5000, len
	};
	struct reply r;
	int err = iom_call(VU_IOMMUFD_IOAS_COPY, &p, sizeof(p), &r);

	if (!err) {
		assert_int_equal(r.len, sizeof(p));
		memcpy(&p, r.data, sizeof(p));
		*out = p.dst_iova;
	}
	return err;
}

int
iom_setup(void **state)
{
	vm_start(&sc.v, "vm0", true);
	assert_int_equal(sc.v.ioas, 1);
	assert_int_equal(iom_alloc(), 2);
	sc.memory = memfd_create("memory", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_int_equal(ftruncate(sc.memory, PG(16)), 0);
	assert_int_equal(vm_map_fd(&sc.v, 2, sc.memory, 0, PG(8), true, true,
				   &sc.rw),
			 0);
	assert_int_equal(vm_map_fd(&sc.v, 2, sc.memory, PG(8), PG(4), true,
				   false, &sc.ro),
			 0);
	return 0;
}

int
iom_teardown(void **state)
{
	vm_kill(&sc.v);
	close(sc.memory);
	return 0;
}
